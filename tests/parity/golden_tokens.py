"""Token ids of texts by the reference, with a small tokenizer and with Qwen's own.

In: a checkpoint, ``texts.jsonl``. Out: the ids of every text within the prompt template, and the part of
Qwen's vocabulary that these texts can use. Runs in the reference's environment, and downloads the vocabulary
(tests.checkpoints.qwen_tokenizer). Does not know: our tokenizer.

A merge affects a text only if its token is a substring of one of the text's words: with exactly these merges,
the texts have the same ids as with all 151,643 tokens.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSProcessor
from qwen_tts.inference.qwen3_tts_model import Qwen3TTSModel
from transformers import AutoConfig, AutoProcessor

from tests.checkpoints.qwen_tokenizer import fetch_ranks, vocabulary_and_merges
from tests.checkpoints.tiny_tokenizer import byte_letters, write_tokenizer_files

TEXTS = Path(__file__).parent / "texts.jsonl"
# All shapes have the same tokenizer.
SHAPE = "odd"
# The reference removes the role before the text and, after it, the end of the turn and the next turn's role.
_BEFORE, _BEHIND = 3, 5


def make(checkpoint: Path, shape: str) -> dict[str, torch.Tensor]:
    """Concatenated ids of all texts, int32, and the length of each; the vocabulary as JSON in bytes."""
    if shape != SHAPE:
        return {}
    AutoConfig.register("qwen3_tts", Qwen3TTSConfig)
    AutoProcessor.register(Qwen3TTSConfig, Qwen3TTSProcessor)
    texts = [json.loads(line)["text"] for line in TEXTS.read_text("utf-8").splitlines()]
    vocabulary, merges = vocabulary_and_merges(fetch_ranks())
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(checkpoint / "config.json", folder)
        write_tokenizer_files(Path(folder), vocabulary, merges)
        qwen = _processor(Path(folder))
    tensors = _ids(_processor(checkpoint), texts, "small") | _ids(qwen, texts, "qwen")
    part = json.dumps(_part_of(vocabulary, merges, qwen.tokenizer, texts), separators=(",", ":"))
    return {**tensors, "vocabulary": torch.frombuffer(bytearray(part.encode()), dtype=torch.uint8)}


def _processor(folder: Path) -> Any:
    return AutoProcessor.from_pretrained(str(folder), fix_mistral_regex=True)


def _ids(processor: Any, texts: list[str], name: str) -> dict[str, torch.Tensor]:
    """Raises ValueError unless the template's own ids are those that the reference assumes."""
    whole = [processor(text=_in_template(text), padding=True)["input_ids"][0] for text in texts]
    (empty,) = processor(text=_in_template(""), padding=True)["input_ids"]
    role, behind = empty[:_BEFORE], empty[_BEFORE:]
    if len(empty) != _BEFORE + _BEHIND or any(
        ids[:_BEFORE] != role or ids[-_BEHIND:] != behind for ids in whole
    ):
        raise ValueError("the template does not stand apart from the text")
    texts_ids = [ids[_BEFORE:-_BEHIND] for ids in whole]
    return {
        f"{name}.role": torch.tensor(role, dtype=torch.int32),
        f"{name}.lengths": torch.tensor([len(ids) for ids in texts_ids], dtype=torch.int32),
        f"{name}.ids": torch.tensor([one for ids in texts_ids for one in ids], dtype=torch.int32),
    }


def _in_template(text: str) -> str:
    whole: str = Qwen3TTSModel._build_assistant_text(None, text)
    return whole


def _part_of(
    vocabulary: dict[str, int], merges: list[str], tokenizer: Any, texts: list[str]
) -> dict[str, Any]:
    """The tokens, with their ids, and the merges that these texts can use."""
    backend = tokenizer.backend_tokenizer
    met = set(byte_letters())
    for text in texts:
        normal = backend.normalizer.normalize_str(_in_template(text))
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal):
            met.update(part for part in _parts(word) if part in vocabulary)
    return {
        "vocabulary": {token: number for token, number in vocabulary.items() if token in met},
        "merges": [merge for merge in merges if merge.replace(" ", "") in met],
    }


def _parts(word: str) -> Iterator[str]:
    for start in range(len(word)):
        for end in range(start + 1, len(word) + 1):
            yield word[start:end]
