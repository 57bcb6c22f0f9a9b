"""Checkpoints from the Hugging Face hub, and those already on this machine.

In: a model id or a folder. Out: the folder of a complete checkpoint. Does not know: the files' contents.
"""
