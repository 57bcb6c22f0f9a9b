"""Laws of the GPU's kernels, interpreted on a CPU where there is no GPU."""
