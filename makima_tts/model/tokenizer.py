"""Text becomes token ids: the byte-level BPE of Qwen2.

In: a checkpoint's vocab.json, merges.txt and tokenizer_config.json; text. Out: ids. Does not know: prompts.

Special tokens are not part of the vocabulary: one that a user types is text like any other. Those of the
prompt's template are looked up by name.
"""

import json
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ValidationError
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from makima_tts.errors import TtsUnavailable
from makima_tts.model.checkpoint.config import read_file

VOCABULARY = "vocab.json"
MERGES = "merges.txt"
TOKENIZER_CONFIG = "tokenizer_config.json"

# A first line that some files have. No other: a token may begin like that.
_VERSION = "#version: 0.2"
_IM_START = "<|im_start|>"
_ROLE = "assistant"
_NEW_LINE = "\n"
# How Qwen2 divides text before merging: contractions, words with what precedes them, single digits,
# punctuation, white space. As in transformers' Qwen2Converter.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _SpecialToken(BaseModel):
    content: str


class _TokenizerFile(BaseModel):
    added_tokens_decoder: dict[int, _SpecialToken]


class TextTokenizer:
    """``role_ids``: the three ids that open an assistant's turn. ``largest_id``: of all ids."""

    def __init__(self, bpe: Tokenizer, im_start_id: int, largest_id: int) -> None:
        """Raises TtsUnavailable where the role or a new line is not one token: prompts rely on it."""
        self._bpe = bpe
        opening = [im_start_id, *bpe.encode(_ROLE).ids, *bpe.encode(_NEW_LINE).ids]
        if len(opening) != 3:
            raise TtsUnavailable(f"The checkpoint's {VOCABULARY} is not Qwen's: it lacks the word {_ROLE}.")
        self.role_ids: tuple[int, ...] = tuple(opening)
        self.largest_id = max(im_start_id, largest_id)

    @classmethod
    def load(cls, folder: Path) -> "TextTokenizer":
        """Raises TtsUnavailable, naming the file."""
        vocabulary = _vocabulary(folder)
        bpe = Tokenizer(_bpe(folder, vocabulary))
        bpe.normalizer = NFC()
        bpe.pre_tokenizer = Sequence([Split(Regex(_WORDS), "isolated"), ByteLevel(False, use_regex=False)])
        return cls(bpe, _im_start_id(folder), max(vocabulary.values()))

    def encode(self, text: str) -> list[int]:
        """Ids of a user's text as it stands in the template.

        White space before it is dropped, as it would merge with the template's new line.
        """
        return self.encode_continuation(text.lstrip())

    def encode_continuation(self, text: str) -> list[int]:
        """Ids of text that follows other text, which ended with a word."""
        # Half of a surrogate pair is not a character, and cannot be encoded in UTF-8.
        ids: list[int] = self._bpe.encode(text.encode(errors="replace").decode()).ids
        return ids


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        ids = json.loads(read_file(folder, VOCABULARY))
    except (ValueError, RecursionError):
        _refuse(VOCABULARY, "is damaged")
    if not isinstance(ids, dict) or not all(isinstance(number, int) for number in ids.values()):
        _refuse(VOCABULARY, "is no list of tokens")
    if not set(ByteLevel.alphabet()) <= ids.keys():
        _refuse(VOCABULARY, "lacks tokens of single bytes: it is not Qwen's")
    return ids


def _bpe(folder: Path, vocabulary: dict[str, int]) -> BPE:
    try:
        lines = read_file(folder, MERGES).decode().splitlines()
        merges = [_pair(line) for line in lines[lines[:1] == [_VERSION] :] if line]
        return BPE(vocabulary, merges)
    except TtsUnavailable:
        raise
    except Exception as error:  # the library raises no other kind
        raise TtsUnavailable(
            f"The checkpoint's {MERGES} is damaged, or not of its {VOCABULARY}; download both again."
        ) from error


def _pair(line: str) -> tuple[str, str]:
    """Raises ValueError unless there are two."""
    first, second = line.split(" ")
    return first, second


def _im_start_id(folder: Path) -> int:
    try:
        file = _TokenizerFile.model_validate_json(read_file(folder, TOKENIZER_CONFIG))
    except ValidationError:
        _refuse(TOKENIZER_CONFIG, "names no added tokens")
    ids: dict[str, int] = {token.content: number for number, token in file.added_tokens_decoder.items()}
    if _IM_START not in ids:
        _refuse(TOKENIZER_CONFIG, f"lacks the token {_IM_START}: it is not Qwen's")
    return ids[_IM_START]


def _refuse(name: str, fault: str) -> NoReturn:
    raise TtsUnavailable(f"The checkpoint's {name} {fault}; download it again.") from None
