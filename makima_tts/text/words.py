"""A text as spoken, and its words: where they stand in the text as received, and when they are spoken.

In: a text. Out: positions. Does not know: how a text is cleaned, audio, how times are found.

A word is a run of letters and digits with the marks between them ("don't", "3.14", "well-known", "a@b.org").
In Chinese and Japanese, which have no spaces, it is one character with what is joined to it: small kana, the
long vowel mark, combining marks. Marks and symbols that stand alone are no words.
"""

import re
import unicodedata
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class SpokenText:
    """A text as spoken. ``starts``: where each character of ``text`` begins in the text as received.

    Removed characters belong to the spoken character before or after them, so every position between spoken
    characters is also a position in the text as received. ``begins``, ``ends``: the positions without them.
    """

    text: str = field(default="", repr=False)
    starts: list[int] = field(default_factory=list, repr=False)
    begins: list[int] = field(default_factory=list, repr=False)
    ends: list[int] = field(default_factory=list, repr=False)

    def extend(self, following: "SpokenText") -> None:
        self.text += following.text
        self.starts += following.starts
        self.begins += following.begins
        self.ends += following.ends

    def first(self, count: int) -> "SpokenText":
        return SpokenText(self.text[:count], self.starts[:count], self.begins[:count], self.ends[:count])

    def take(self, count: int) -> "SpokenText":
        """Remove and return its first characters."""
        taken = self.first(count)
        self.text = self.text[count:]
        del self.starts[:count], self.begins[:count], self.ends[:count]
        return taken

    def words(self) -> list[TextSpan]:
        """Its words, as they stand in the text as received."""
        return [TextSpan(self.begins[word.start], self.ends[word.end - 1]) for word in words_in(self.text)]


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
