"""A checkpoint's tensors by name, on the device and in the precision that they are wanted in.

In: tensors by name, from safetensors files or from memory. Out: the same, checked for their shapes, moved
and cast. Does not know: what they are for, where the files came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from makima_tts.errors import TtsUnavailable


class TensorSource(Protocol):
    """Tensors by their full names. ``label`` is what people call the file."""

    @property
    def label(self) -> str: ...

    def names(self) -> frozenset[str]: ...

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Without reading it; None when there is no such tensor."""

    def read(self, name: str) -> Tensor:
        """One that is there."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What is taken is a copy: whatever becomes of the file, it stays, and it is aligned as torch aligns.

    ``taken`` collects the full names of what was taken, and ``on_taken`` hears each the first time; both are
    shared by all that were made of these with ``within`` and ``as_dtype``.
    """

    source: TensorSource
    device: torch.device
    dtype: torch.dtype
    prefix: str = ""
    on_taken: Callable[[str], object] = lambda _name: None
    taken: set[str] = field(default_factory=set, repr=False)

    def within(self, prefix: str) -> "Weights":
        """Those whose names go on with ``prefix`` and a dot."""
        return replace(self, prefix=f"{self.prefix}{prefix}.")

    def as_dtype(self, dtype: torch.dtype) -> "Weights":
        return replace(self, dtype=dtype)

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises TtsUnavailable, naming file and tensor, when it is missing or of another shape."""
        return self._take(name, shape).to(self.device, self.dtype, copy=True)

    def take_table(self, name: str, *shape: int) -> Tensor:
        """One of which a few rows are looked up now and then: in the host's memory, wherever the rest is.

        bfloat16 stays so, since what is looked up can be widened exactly.
        """
        tensor = self._take(name, shape)
        dtype = torch.bfloat16 if tensor.dtype is torch.bfloat16 else self.dtype
        return tensor.to("cpu", dtype, copy=True)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        full = self.prefix + name
        found = self.source.shape(full)
        if found is None:
            raise TtsUnavailable(f"{self.source.label} lacks the tensor {full}; download it again.")
        if found != shape:
            raise TtsUnavailable(
                f"{self.source.label}: {full} has the shape {list(found)}, "
                f"but the configuration says {list(shape)}."
            )
        if full not in self.taken:
            self.taken.add(full)
            self.on_taken(full)
        return self.source.read(full)

    def untaken(self) -> list[str]:
        """Full names below this prefix that nobody has taken, sorted."""
        return sorted(name for name in self.source.names() - self.taken if name.startswith(self.prefix))


@dataclass(frozen=True, slots=True)
class _Memory:
    tensors: Mapping[str, Tensor]
    label: str = "memory"

    def names(self) -> frozenset[str]:
        return frozenset(self.tensors)

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self.tensors[name].shape) if name in self.tensors else None

    def read(self, name: str) -> Tensor:
        return self.tensors[name]


def weights_in_memory(
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> Weights:
    """Of tensors that are there already, for the CPU."""
    return Weights(_Memory(tensors), torch.device("cpu"), dtype)
