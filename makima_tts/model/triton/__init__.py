"""Kernels for GPUs, in Triton: what the torch modules of ``model`` compute, with fewer and larger launches.

In: tensors on one device. Out: tensors there; nothing is read back, so that all of it can be captured in a
graph. Does not know: slots' owners, when it runs.
"""
