"""Small tensors on their way from the host to the device, without anybody waiting for either.

In: a tensor in the host's memory. Out: the same on the device. Does not know: what it holds.
"""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The copy is made when the device comes to it.

    To CUDA through pinned memory: from any other, the host would wait until everything before was computed.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
