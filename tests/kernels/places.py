"""Where kernels are tested: on a GPU where there is one, else interpreted, on a CPU.

In: nothing. Out: a device, the kinds of numbers that can be tried there, numbers. Does not know: kernels.
"""

import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16)


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)
