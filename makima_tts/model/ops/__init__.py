"""Leaf operations: what a model computes with, by device and precision.

In: weights, tensors. Out: operations that compute with them: torch's, those in C, those in Triton. Does not
know: the model's structure, utterances.
"""
