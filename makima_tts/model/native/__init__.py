"""What is computed outside torch: transformer layers over weights of eight or four bits, on CPUs.

In: tensors. Out: tensors. Does not know: which part of a model they belong to.
"""
