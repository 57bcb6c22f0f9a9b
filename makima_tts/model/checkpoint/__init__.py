"""A checkpoint folder: files, configuration, weights.

In: a folder in the layout of Hugging Face. Out: typed configuration and tensors.
Does not know: what is computed.
"""
