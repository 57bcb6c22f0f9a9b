"""All measurements that need a GPU, as pytest tests that bench/gpu.sh runs part by part, each with a limit.

In: the machine. Out: figures, tables and targets in one folder. Does not know: the model's parts.
"""
