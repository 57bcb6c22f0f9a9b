"""Words of a text, and when they are spoken.

In: a text. Out: where its words stand. Does not know: audio, how the times are found.

A word is a run of letters and digits with the marks between them ("don't", "3.14", "well-known", "a@b.org").
In Chinese and Japanese, which have no spaces, it is one character with what is joined to it: small kana, the
long vowel mark, combining marks. Marks and symbols that stand alone are no words.
"""

import re
import unicodedata
from typing import NamedTuple

# Ideographs and kana, and what is joined to the one before.
_CHARACTER = (
    r"\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fd-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
)
_JOINED = (
    r"ぁぃぅぇぉゃゅょゎァィゥェォャュョヮ\u3099\u309a\u30fc\uff67-\uff70\uff9e\uff9f\ufe00-\ufe0f"
    r"\U000e0100-\U000e01ef"
)
# Dashes, ellipses and wide marks separate words, as white space does.
_SEPARATOR = r"\s\u2014\u2015\u2026\u3000-\u3004\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
_SEPARATOR += r"\uff5b-\uff65"
_WORD = re.compile(
    f"[{_CHARACTER}][{_JOINED}]*|(?![{_CHARACTER}])[^\\W_][^{_SEPARATOR}{_CHARACTER}]*(?<=[^\\W_])"
)


class TextSpan(NamedTuple):
    """Code points ``start`` to ``end`` of a text."""

    start: int
    end: int


class WordTime(NamedTuple):
    """When a word of a piece is spoken, in ms from the beginning of the utterance's audio."""

    piece_index: int
    word_index: int
    start_ms: float
    end_ms: float
    estimated: bool = False


def words_in(text: str) -> list[TextSpan]:
    """Its words in order, without the marks around them."""
    return [TextSpan(word.start(), _end(text, word.end())) for word in _WORD.finditer(text)]


def _end(text: str, end: int) -> int:
    """Past the combining marks, which belong to the letter before them."""
    while text[end : end + 1] > "\u02ff" and unicodedata.category(text[end])[0] == "M":
        end += 1
    return end
