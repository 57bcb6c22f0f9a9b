"""A published checkpoint on disk.

In: a folder. Out: its configuration, its tokenizer, its tensors. Does not know: where it came from, what the
tensors are for.

safetensors files only, mapped into memory: a tensor is read when it is taken, straight to its device. Other
formats can run code, and are not opened.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from makima_tts.errors import TtsUnavailable
from makima_tts.model.checkpoint.config import (
    CODEC_CONFIG,
    CODEC_WEIGHTS,
    GENERATION_CONFIG,
    MODEL_CONFIG,
    MODEL_INDEX,
    MODEL_WEIGHTS,
    ModelConfig,
    load_config,
)
from makima_tts.model.checkpoint.tensors import REMEDY, TensorFiles, Weights, stored_tensors
from makima_tts.model.tokenizer import MERGES, TOKENIZER_CONFIG, VOCABULARY, TextTokenizer

_TEXT_FILES = (MODEL_CONFIG, GENERATION_CONFIG, CODEC_CONFIG, TOKENIZER_CONFIG, VOCABULARY, MERGES)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Of every tensor, from its beginning and from its middle.
_DIGESTED_BYTES = 512
# Left over from training, or not needed for codes: projections back from codebooks, and codebooks that the
# talker does not use. The encoder takes those that the configuration counts.
_NOT_NEEDED = re.compile(
    r".*\.initialized|.*\.inv_freq"
    r"|encoder\.(decoder|decoder_transformer|upsample)\..*"
    r"|encoder\.quantizer\..*_residual_vector_quantizer\.(output_proj|layers)\..*"
    r"|decoder\.quantizer\.rvq_(first|rest)\.input_proj\..*"
)

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``fingerprint`` tells one checkpoint from another: a digest of its files, of large ones a sample."""

    folder: Path
    config: ModelConfig
    tokenizer: TextTokenizer
    fingerprint: str

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Quick: tensors are not read. Raises TtsUnavailable with the file, and what is wrong with it."""
        if not folder.is_dir():
            raise TtsUnavailable("The checkpoint's folder is not there; check TTS_MODEL_ID.")
        config, tokenizer = load_config(folder), TextTokenizer.load(folder)
        _demand_same_ids(config, tokenizer)
        _model_tensors(folder)
        TensorFiles.open(folder, (CODEC_WEIGHTS,), CODEC_WEIGHTS)
        return cls(folder, config, tokenizer, _fingerprint(folder))

    def model_weights(
        self, device: torch.device, dtype: torch.dtype, progress: Progress = lambda _share: None
    ) -> Weights:
        """Talker, code predictor and speaker encoder. ``progress``: the share of bytes taken, 0…1."""
        return _weights(_model_tensors(self.folder), device, dtype, progress)

    def codec_weights(
        self, device: torch.device, dtype: torch.dtype, progress: Progress = lambda _share: None
    ) -> Weights:
        """The codec's encoder and decoder. ``progress``: the share of bytes taken, 0…1."""
        files = TensorFiles.open(self.folder, (CODEC_WEIGHTS,), CODEC_WEIGHTS)
        return _weights(files, device, dtype, progress)


def unexplained(*weights: Weights) -> list[str]:
    """Untaken tensors that no checkpoint of this model type has: it may be of another type."""
    return [name for group in weights for name in group.untaken() if not _NOT_NEEDED.fullmatch(name)]


def _demand_same_ids(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    """An id without a row in the embedding would index beyond it."""
    rows = config.talker_config.text_vocab_size
    special = (
        config.im_start_token_id,
        config.tts_pad_token_id,
        config.tts_bos_token_id,
        config.tts_eos_token_id,
    )
    if tokenizer.role_ids[0] != config.im_start_token_id or max(tokenizer.largest_id, *special) >= rows:
        raise TtsUnavailable(
            f"The checkpoint's {VOCABULARY} and {TOKENIZER_CONFIG} do not belong to its {MODEL_CONFIG}: "
            f"their ids differ; {REMEDY}."
        )


def _model_tensors(folder: Path) -> TensorFiles:
    """Of one file, or of the several that an index names."""
    if (folder / MODEL_WEIGHTS).exists():
        return TensorFiles.open(folder, (MODEL_WEIGHTS,), MODEL_WEIGHTS)
    if (folder / MODEL_INDEX).exists():
        return TensorFiles.open(folder, _shards(folder), MODEL_INDEX)
    if any(found for pattern in _PICKLES for found in folder.glob(pattern)):
        raise TtsUnavailable(
            f"The checkpoint has its weights as a pickle, which can run code and is not opened; get one with "
            f"{MODEL_WEIGHTS}."
        )
    raise TtsUnavailable(f"The checkpoint lacks {MODEL_WEIGHTS}; {REMEDY}.")


def _shards(folder: Path) -> tuple[str, ...]:
    try:
        index = json.loads((folder / MODEL_INDEX).read_bytes())
        names = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TtsUnavailable(f"The checkpoint's {MODEL_INDEX} cannot be read; {REMEDY}.") from None
    if not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
        raise TtsUnavailable(
            f"The checkpoint's {MODEL_INDEX} names a file that is not a safetensors file beside it."
        )
    return tuple(names)


def _weights(files: TensorFiles, device: torch.device, dtype: torch.dtype, progress: Progress) -> Weights:
    names = [name for name in files.names() if not _NOT_NEEDED.fullmatch(name)]
    total, taken = max(1, sum(map(files.size_bytes, names))), 0

    def count(name: str) -> None:
        nonlocal taken
        taken += files.size_bytes(name)
        progress(min(1.0, taken / total))

    return Weights(files, device, dtype, on_taken=count)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _TEXT_FILES:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    model = (MODEL_WEIGHTS,) if (folder / MODEL_WEIGHTS).exists() else _shards(folder)
    for name in (*model, CODEC_WEIGHTS):
        for sample in _samples(folder, name):
            digest.update(sample)
    return digest.hexdigest()[:16]


def _samples(folder: Path, name: str) -> Iterator[bytes]:
    """Some bytes of every tensor, so that another tensor changes the digest; reading all takes seconds."""
    with (folder / name).open("rb") as file:
        for tensor in stored_tensors(folder, name):
            yield repr((tensor.name, tensor.dtype, tensor.shape)).encode()
            for start in (tensor.begin, (tensor.begin + tensor.end) // 2):
                file.seek(start)
                yield file.read(min(_DIGESTED_BYTES, tensor.end - start))
