"""A checkpoint's tensors by name, on the device and in the precision that they are wanted in.

In: tensors by name, from safetensors files or from memory. Out: the same, checked for their shapes, moved
and cast. Does not know: what they are for, where the files came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from makima_tts.errors import TtsUnavailable


@dataclass(frozen=True, slots=True)
class Weights:
    """``read`` gives a tensor by its full name, or None. ``file`` is what people call the source.

    ``taken`` hears the full name of every tensor that was taken.
    """

    file: str
    read: Callable[[str], Tensor | None]
    device: torch.device
    dtype: torch.dtype
    prefix: str = ""
    taken: Callable[[str], object] = lambda _name: None

    def within(self, prefix: str) -> "Weights":
        """Those whose names go on with ``prefix`` and a dot."""
        return replace(self, prefix=f"{self.prefix}{prefix}.")

    def as_dtype(self, dtype: torch.dtype) -> "Weights":
        return replace(self, dtype=dtype)

    def has(self, name: str) -> bool:
        return self.read(self.prefix + name) is not None

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises TtsUnavailable, naming file and tensor, when it is missing or of another shape."""
        tensor = self.take_if_there(name, *shape)
        if tensor is None:
            raise TtsUnavailable(f"{self.file} lacks the tensor {self.prefix}{name}; download it again.")
        return tensor

    def take_if_there(self, name: str, *shape: int) -> Tensor | None:
        """None when there is none of that name. Raises TtsUnavailable when it has another shape."""
        full = self.prefix + name
        tensor = self.read(full)
        if tensor is None:
            return None
        if tuple(tensor.shape) != shape:
            raise TtsUnavailable(
                f"{self.file}: {full} has the shape {list(tensor.shape)}, "
                f"but the configuration says {list(shape)}."
            )
        self.taken(full)
        return tensor.to(self.device, self.dtype)


def weights_in_memory(
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> Weights:
    """Of tensors that are there already, for the CPU."""
    return Weights("memory", tensors.get, torch.device("cpu"), dtype)
