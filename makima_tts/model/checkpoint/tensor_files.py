"""safetensors files, mapped into memory: what they hold is known at once, and read when it is asked for.

In: a folder, names of files in it. Out: tensors by name; their shapes without reading them. Does not know:
what the tensors are for.

A file is 8 bytes of its header's length, the header in JSON, then the tensors
(https://github.com/huggingface/safetensors#format). The header is read here, so that a fault is named by its
tensor; the library checks the file again before it maps it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from makima_tts.errors import TtsUnavailable

REMEDY = "download it again"

_LENGTH_BYTES = 8
# The library's own limit.
_LONGEST_HEADER_BYTES = 100_000_000
_NOTES = "__metadata__"
_REAL_NUMBERS = {"F32", "BF16", "F16"}


class _Entry(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_HEADER = TypeAdapter(dict[str, _Entry])


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: ``begin`` and ``end`` count the file's bytes. ``kind``: F32, BF16, I8 …"""

    file: str
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin


class TensorFiles:
    """A TensorSource: the tensors of some files, as if they were one."""

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
        """None when there is no such tensor."""
        stored = self._stored.get(name)
        return None if stored is None else stored.shape

    def read(self, name: str) -> Tensor:
        """As it is stored, in the file's own memory. Raises TtsUnavailable unless bf16, fp16 or fp32."""
        stored = self._stored[name]
        if stored.kind not in _REAL_NUMBERS:
            raise TtsUnavailable(
                f"{stored.file}: {name} is of type {stored.kind}; quantized checkpoints cannot be used, only "
                "those in bf16, fp16 or fp32."
            )
        tensor: Tensor = self._opened[stored.file].get_tensor(name)
        return tensor


def stored_tensors(folder: Path, name: str) -> list[StoredTensor]:
    """What a file says it holds, in the order of its bytes. Raises TtsUnavailable, as ``open`` does."""
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
    tensors = sorted(_placed(name, start, entries), key=lambda tensor: tensor.begin)
    for tensor in tensors:
        if tensor.end > size_bytes:
            raise TtsUnavailable(
                f"The checkpoint's {name} is incomplete: it ends before {tensor.name} does; {REMEDY}."
            )
    return tensors


def _placed(file: str, start: int, entries: Mapping[str, _Entry]) -> Iterator[StoredTensor]:
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        yield StoredTensor(file, name, entry.dtype, entry.shape, start + begin, start + end)


def _header(path: Path) -> tuple[int, dict[str, _Entry]]:
    """Where tensors begin, and what the header says of them. Raises ValueError for what is no header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > _LONGEST_HEADER_BYTES:
            raise ValueError("no length of a header")
        entries = json.loads(file.read(length))
    entries.pop(_NOTES, None)
    try:
        return _LENGTH_BYTES + length, _HEADER.validate_python(entries)
    except ValidationError as error:
        raise ValueError("no header") from error


def _open(folder: Path, name: str) -> Any:
    try:
        return safe_open(folder / name, framework="pt")
    except (SafetensorError, OSError) as error:
        raise TtsUnavailable(f"The checkpoint's {name} is damaged or incomplete; {REMEDY}.") from error
