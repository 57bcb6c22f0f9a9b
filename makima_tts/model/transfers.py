"""Small tensors on their way from the host to the device, without anybody waiting for either.

In: a tensor in the host's memory. Out: the same on the device. Does not know: what it holds.
"""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy there, made when the device comes to it."""
    return _pinned(tensor, device).to(device, non_blocking=True)


def send_into(place: Tensor, tensor: Tensor) -> None:
    """Likewise, to where it is wanted: nothing is allocated on the device."""
    place.copy_(_pinned(tensor, place.device), non_blocking=True)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """From memory that is not pinned the host would wait until CUDA has computed everything before."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
