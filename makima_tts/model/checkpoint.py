"""A published checkpoint on disk.

In: a folder. Out: its configuration, its tokenizer, its tensors. Does not know: where it came from, what the
tensors are for.

safetensors files only, mapped into memory: a tensor is read when it is taken, straight to its device. Other
formats can run code, and are not opened.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from makima_tts.errors import TtsUnavailable
from makima_tts.model.config import (
    CODEC_CONFIG,
    GENERATION_CONFIG,
    MODEL_CONFIG,
    ModelConfig,
    load_config,
)
from makima_tts.model.tokenizer import MERGES, TOKENIZER_CONFIG, VOCABULARY, TextTokenizer
from makima_tts.model.weights import Weights

MODEL_WEIGHTS = "model.safetensors"
MODEL_INDEX = "model.safetensors.index.json"
CODEC_WEIGHTS = "speech_tokenizer/model.safetensors"

_TEXT_FILES = (MODEL_CONFIG, GENERATION_CONFIG, CODEC_CONFIG, TOKENIZER_CONFIG, VOCABULARY, MERGES)
_REAL_NUMBERS = (torch.float32, torch.bfloat16, torch.float16)
# Of each file: its beginning, which says what is where, its end, and blocks between them.
_DIGESTED_BLOCKS = 64
_BLOCK_BYTES = 4096

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``fingerprint`` tells one checkpoint from another: a digest of its files, a sample of large ones."""

    folder: Path
    config: ModelConfig
    tokenizer: TextTokenizer
    fingerprint: str

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Quick: tensors are not read. Raises TtsUnavailable with the file, and what is wrong with it."""
        if not folder.is_dir():
            raise TtsUnavailable("The checkpoint's folder is not there; set TTS_MODEL_ID.")
        config, tokenizer = load_config(folder), TextTokenizer.load(folder)
        for name in (*_model_files(folder), CODEC_WEIGHTS):
            _open(folder, name)
        return cls(folder, config, tokenizer, _fingerprint(folder))

    def model_weights(
        self, device: torch.device, dtype: torch.dtype, progress: Progress = lambda _share: None
    ) -> Weights:
        """Talker, code predictor and speaker encoder."""
        return _weights(self.folder, _model_files(self.folder), device, dtype, progress)

    def codec_weights(
        self, device: torch.device, dtype: torch.dtype, progress: Progress = lambda _share: None
    ) -> Weights:
        """The codec's encoder and decoder."""
        return _weights(self.folder, (CODEC_WEIGHTS,), device, dtype, progress)


def _model_files(folder: Path) -> tuple[str, ...]:
    """One file, or the several that an index names. Raises TtsUnavailable."""
    if (folder / MODEL_WEIGHTS).exists() or not (folder / MODEL_INDEX).exists():
        return (MODEL_WEIGHTS,)
    try:
        index = json.loads((folder / MODEL_INDEX).read_bytes())
        names = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise TtsUnavailable(f"The checkpoint's {MODEL_INDEX} cannot be read; download it again.") from None
    if any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise TtsUnavailable(f"The checkpoint's {MODEL_INDEX} names files outside the checkpoint.")
    return tuple(names)


def _open(folder: Path, name: str) -> Any:
    if not (folder / name).is_file():
        raise TtsUnavailable(f"The checkpoint lacks {name}; download it again.")
    try:
        return safe_open(folder / name, framework="pt")
    except (SafetensorError, OSError) as error:
        message = f"The checkpoint's {name} is damaged or incomplete; download it again."
        raise TtsUnavailable(message) from error


def _weights(
    folder: Path, names: tuple[str, ...], device: torch.device, dtype: torch.dtype, progress: Progress
) -> Weights:
    files = {name: _open(folder, name) for name in names}
    holders = {tensor: name for name, file in files.items() for tensor in file.keys()}  # noqa: SIM118
    counter = _Counter(len(holders), progress)

    def read(tensor: str) -> Tensor | None:
        if tensor not in holders:
            return None
        found: Tensor = files[holders[tensor]].get_tensor(tensor)
        if found.dtype not in _REAL_NUMBERS:
            kind = str(found.dtype).removeprefix("torch.")
            raise TtsUnavailable(
                f"{holders[tensor]}: {tensor} holds {kind}; quantized checkpoints cannot be used, "
                "only those of bf16, fp16 or fp32."
            )
        return found

    return Weights(" and ".join(names), read, device, dtype, taken=counter.add)


class _Counter:
    """Progress by the number of tensors that were taken: some are taken twice, in two precisions."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = max(1, total)
        self._taken: set[str] = set()
        self._progress = progress

    def add(self, name: str) -> None:
        self._taken.add(name)
        self._progress(len(self._taken) / self._total)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _TEXT_FILES:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    for name in (*_model_files(folder), CODEC_WEIGHTS):
        for block in _blocks(folder / name):
            digest.update(block)
    return digest.hexdigest()[:16]


def _blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield size.to_bytes(8)
    with path.open("rb") as file:
        for number in range(_DIGESTED_BLOCKS + 1):
            file.seek(max(0, size - _BLOCK_BYTES) * number // _DIGESTED_BLOCKS)
            yield file.read(_BLOCK_BYTES)
