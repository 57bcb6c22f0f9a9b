"""Text becomes token ids: the byte-level BPE of Qwen2.

In: a checkpoint's vocab.json, merges.txt and tokenizer_config.json; text. Out: ids. Does not know: prompts.

Special tokens are not among what it knows: one that a user types is text like any other. Those of the
prompt's template are looked up by name.
"""

from pathlib import Path

from pydantic import BaseModel, ValidationError
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from makima_tts.errors import TtsUnavailable

VOCABULARY = "vocab.json"
MERGES = "merges.txt"
TOKENIZER_CONFIG = "tokenizer_config.json"

_TURN = "<|im_start|>"
_SPEAKER = ("assistant", "\n")
# How Qwen2 divides text before merging: contractions, words with what precedes them, single digits,
# punctuation, white space.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _SpecialToken(BaseModel):
    content: str


class _TokenizerFile(BaseModel):
    added_tokens_decoder: dict[int, _SpecialToken]


class TextTokenizer:
    """``role_ids``: the three ids that open a turn of the voice."""

    def __init__(self, bpe: Tokenizer, role_ids: tuple[int, ...]) -> None:
        self._bpe = bpe
        self.role_ids = role_ids

    @classmethod
    def load(cls, folder: Path) -> "TextTokenizer":
        """Raises TtsUnavailable, naming the file."""
        special = _special_ids(folder)
        try:
            bpe = Tokenizer(BPE.from_file(str(folder / VOCABULARY), str(folder / MERGES)))
        except Exception as error:  # the library raises no other kind
            missing = [name for name in (VOCABULARY, MERGES) if not (folder / name).is_file()]
            files = " and ".join(missing or (VOCABULARY, MERGES))
            what = "lacks" if missing else "has damaged"
            raise TtsUnavailable(f"The checkpoint {what} {files}; download it again.") from error
        bpe.normalizer = NFC()
        bpe.pre_tokenizer = Sequence([Split(Regex(_WORDS), "isolated"), ByteLevel(False, use_regex=False)])
        tokenizer = cls(bpe, ())
        speaker = [tokenizer.encode(part) if part.strip() else bpe.encode(part).ids for part in _SPEAKER]
        if _TURN not in special or any(len(ids) != 1 for ids in speaker):
            raise TtsUnavailable(
                f"The checkpoint's tokenizer is not Qwen's: {_TURN}, assistant and a new line must be "
                "one token each."
            )
        tokenizer.role_ids = (special[_TURN], *(ids[0] for ids in speaker))
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of user's text as it stands in the template; white space before it would be part of that."""
        ids: list[int] = self._bpe.encode(text.lstrip()).ids
        return ids


def _special_ids(folder: Path) -> dict[str, int]:
    try:
        file = _TokenizerFile.model_validate_json((folder / TOKENIZER_CONFIG).read_bytes())
    except OSError:
        raise TtsUnavailable(f"The checkpoint lacks {TOKENIZER_CONFIG}; download it again.") from None
    except ValidationError:
        raise TtsUnavailable(f"The checkpoint's {TOKENIZER_CONFIG} names no added tokens.") from None
    return {token.content: number for number, token in file.added_tokens_decoder.items()}
