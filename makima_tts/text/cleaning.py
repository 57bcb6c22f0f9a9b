"""What of a text is spoken.

In: text as received, in any split. Out: what a voice should say, each character with the place in the text
as received where it begins. Does not know: markup (that is ``markdown``), what an engine can speak.
Cleaning never alters what the text says; it takes out what no voice can say.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal, Protocol

TextCleaning = Literal["markdown", "plain"]

# C0 and C1, but for the white space among them, which separates words.
_WHITE_SPACE = "\t\n\v\f\r\x85"
CONTROLS = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _WHITE_SPACE)
_CONTROLS = str.maketrans("", "", CONTROLS)
_WITHOUT_CONTROLS = re.compile(f"[^{re.escape(CONTROLS)}]+")


def clean(text: str) -> str:
    """NFC, without controls and without white space at its ends. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", text.translate(_CONTROLS)).strip()


def is_speakable(text: str) -> bool:
    """Whether there is a letter or a number in it. Punctuation and emoji alone are not speech."""
    return any(map(str.isalnum, text))


# An engine ended without any audio.
NOTHING_SPOKEN = "This engine found nothing to speak in this text; send words."


def why_silent(text: str) -> str:
    """For people: why nothing of a text is spoken."""
    if is_speakable(text):
        return "Nothing in this text is spoken, such as a block of code; send words."
    return "There is nothing to speak in this text; send words or numbers."


@dataclass(slots=True)
class SpokenText:
    """``starts``: for each character of ``text`` where it begins in the text as received.

    What is left out between two characters belongs to one of them, so that any place between characters is
    also a place in the text as received.
    """

    text: str = field(default="", repr=False)
    starts: list[int] = field(default_factory=list, repr=False)


class Cleaner(Protocol):
    """Reads a growing text. What it returns is certain: it never depends on how the text was split."""

    def feed(self, text: str) -> SpokenText:
        """What became certain by this text."""
        ...

    def flush(self) -> SpokenText:
        """What is still undecided, as if the text ended here; more may follow."""
        ...


class PlainCleaner:
    """Everything but control characters is spoken as it stands."""

    def __init__(self) -> None:
        self._read = 0

    def feed(self, text: str) -> SpokenText:
        spoken, base = SpokenText(), self._read
        for run in _WITHOUT_CONTROLS.finditer(text):
            spoken.text += run.group()
            spoken.starts += range(base + run.start(), base + run.end())
        self._read += len(text)
        return spoken

    def flush(self) -> SpokenText:
        return SpokenText()
