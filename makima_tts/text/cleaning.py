"""Cleaning without markdown: NFC, no control characters; which texts hold speech at all."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

TextCleaning = Literal["markdown", "plain"]

# C0 and C1, without their white space, which separates words.
_WHITE_SPACE = "\t\n\v\f\r\x85"
CONTROLS = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _WHITE_SPACE)
_CONTROLS = str.maketrans("", "", CONTROLS)
_WITHOUT_CONTROLS = re.compile(f"[^{re.escape(CONTROLS)}]+")


@dataclass(slots=True)
class SpokenText:
    """A text as spoken. ``starts``: where each character of ``text`` begins in the text as received.

    Removed characters belong to the spoken character before or after them, so every position between spoken
    characters is also a position in the text as received.
    """

    text: str = field(default="", repr=False)
    starts: list[int] = field(default_factory=list, repr=False)

    def extend(self, following: "SpokenText") -> None:
        self.text += following.text
        self.starts += following.starts


def clean(text: str) -> str:
    """NFC, without controls and without white space at its ends. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", text.translate(_CONTROLS)).strip()


def without_controls(text: str, start: int) -> SpokenText:
    """The text as spoken where marks of markdown are spoken too. ``start``: its position as received."""
    spoken = SpokenText()
    for run in _WITHOUT_CONTROLS.finditer(text):
        spoken.extend(SpokenText(run.group(), list(range(start + run.start(), start + run.end()))))
    return spoken


def is_speakable(text: str) -> bool:
    """Whether it holds a letter or a number. Punctuation and emoji alone are not speech."""
    return any(map(str.isalnum, text))


# An engine ended without any audio.
NOTHING_SPOKEN = "This engine found nothing to speak in this text; send words."


def why_silent(text: str) -> str:
    """A message to people: why nothing of a text is spoken."""
    if is_speakable(text):
        return "Nothing in this text is spoken, such as a block of code; send words."
    return "There is nothing to speak in this text; send words or numbers."
