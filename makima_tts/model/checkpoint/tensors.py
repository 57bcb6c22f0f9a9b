"""A checkpoint's tensors by name, checked for their shapes, on the device and in the precision asked for.

In: a folder, names of safetensors files in it. Out: tensors; their shapes without reading them. Does not
know: what the tensors are for.

The files are mapped into memory: a tensor is read when it is taken. A file is 8 bytes of its header's length,
the header in JSON, then the tensors (https://github.com/huggingface/safetensors#format). The header is
parsed here, so that an error names its tensor; the library checks the file again before it maps it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from makima_tts.errors import TtsUnavailable

REMEDY = "download it again"

_LENGTH_BYTES = 8
# The library's own limit.
_MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"
_REAL_NUMBERS = {"F32", "BF16", "F16"}


class _Entry(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_HEADER = TypeAdapter(dict[str, _Entry])


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: ``begin`` and ``end`` count the file's bytes. ``dtype``: F32, BF16, I8 …"""

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin


class TensorFiles:
    """The tensors of some files, as if they were one. ``label``: what messages call the file."""

    def __init__(self, label: str, opened: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> None:
        self.label = label
        self._opened = opened
        self._stored = stored

    @classmethod
    def open(cls, folder: Path, names: tuple[str, ...], label: str) -> "TensorFiles":
        """Raises TtsUnavailable for a file that is missing, cut short, or no safetensors file."""
        stored = {tensor.name: tensor for name in names for tensor in stored_tensors(folder, name)}
        return cls(label, {name: _open(folder, name) for name in names}, stored)

    def names(self) -> frozenset[str]:
        return frozenset(self._stored)

    def size_bytes(self, name: str) -> int:
        return self._stored[name].size_bytes

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Without reading it; None when there is no such tensor."""
        stored = self._stored.get(name)
        return None if stored is None else stored.shape

    def read(self, name: str) -> Tensor:
        """As it is stored, in the file's own memory. Raises TtsUnavailable unless bf16, fp16 or fp32."""
        stored = self._stored[name]
        if stored.dtype not in _REAL_NUMBERS:
            raise TtsUnavailable(
                f"{stored.file}: {name} is of type {stored.dtype}; quantized checkpoints cannot be used, "
                "only those in bf16, fp16 or fp32."
            )
        tensor: Tensor = self._opened[stored.file].get_tensor(name)
        return tensor


def stored_tensors(folder: Path, name: str) -> list[StoredTensor]:
    """The tensors of one file, in the order of its bytes. Raises TtsUnavailable, as ``open`` does."""
    path = folder / name
    if not path.is_file():
        raise TtsUnavailable(f"The checkpoint lacks {name}; {REMEDY}.")
    try:
        start, entries = _header(path)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise TtsUnavailable(f"The checkpoint's {name} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise TtsUnavailable(f"The checkpoint's {name} is damaged or incomplete; {REMEDY}.") from None
    tensors = sorted(_located(name, start, entries), key=lambda tensor: tensor.begin)
    for tensor in tensors:
        if tensor.end > size_bytes:
            raise TtsUnavailable(
                f"The checkpoint's {name} is incomplete: it ends before {tensor.name} does; {REMEDY}."
            )
    return tensors


def _located(file: str, start: int, entries: Mapping[str, _Entry]) -> Iterator[StoredTensor]:
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        yield StoredTensor(file, name, entry.dtype, entry.shape, start + begin, start + end)


def _header(path: Path) -> tuple[int, dict[str, _Entry]]:
    """Where tensors begin, and the header's entries. Raises ValueError when it is not a header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError("not the length of a header")
        entries = json.loads(file.read(length))
    entries.pop(_METADATA, None)
    try:
        return _LENGTH_BYTES + length, _HEADER.validate_python(entries)
    except ValidationError as error:
        raise ValueError("not a header") from error


def _open(folder: Path, name: str) -> Any:
    try:
        return safe_open(folder / name, framework="pt")
    except (SafetensorError, OSError) as error:
        raise TtsUnavailable(f"The checkpoint's {name} is damaged or incomplete; {REMEDY}.") from error


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors below a prefix. What is taken is a copy: it outlives the file, and is aligned as torch aligns.

    ``taken`` collects the full names of what was taken, and ``on_taken`` is called with each the first time;
    ``within`` and ``as_dtype`` share both.
    """

    source: TensorFiles
    device: torch.device
    dtype: torch.dtype
    prefix: str = ""
    on_taken: Callable[[str], object] = lambda _name: None
    taken: set[str] = field(default_factory=set, repr=False)

    def within(self, prefix: str) -> "Weights":
        """Those whose names continue with ``prefix`` and a dot."""
        return replace(self, prefix=f"{self.prefix}{prefix}.")

    def as_dtype(self, dtype: torch.dtype) -> "Weights":
        return replace(self, dtype=dtype)

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises TtsUnavailable, naming file and tensor, when it is missing or of another shape."""
        return self._take(name, shape).to(self.device, self.dtype, copy=True)

    def take_conv(self, inputs: int, outputs: int, kernel: int) -> Tensor:
        """``conv.weight`` as a matrix over windows whose channels come last: [outputs, kernel * inputs]."""
        weight = self.take("conv.weight", outputs, inputs, kernel)
        return weight.transpose(1, 2).reshape(outputs, -1)

    def take_table(self, name: str, *shape: int) -> Tensor:
        """One of which a few rows are looked up now and then: in the host's memory, wherever the rest is.

        bfloat16 stays so, since rows that are looked up can be widened exactly.
        """
        tensor = self._take(name, shape)
        dtype = torch.bfloat16 if tensor.dtype is torch.bfloat16 else self.dtype
        return tensor.to("cpu", dtype, copy=True)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        full = self.prefix + name
        stored = self.source.shape(full)
        if stored is None:
            raise TtsUnavailable(f"{self.source.label} lacks the tensor {full}; {REMEDY}.")
        if stored != shape:
            raise TtsUnavailable(
                f"{self.source.label}: {full} has the shape {list(stored)}, "
                f"but the configuration says {list(shape)}."
            )
        if full not in self.taken:
            self.taken.add(full)
            self.on_taken(full)
        return self.source.read(full)

    def untaken(self) -> list[str]:
        """Full names below this prefix that were not taken, sorted."""
        return sorted(name for name in self.source.names() - self.taken if name.startswith(self.prefix))
