"""Leaves in C, on CPUs: transformers with weights of eight or four bits, the codec with sixteen.

In: tensors. Out: tensors. Does not know: which part of a model they belong to.
"""
