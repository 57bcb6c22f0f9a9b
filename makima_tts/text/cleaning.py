"""Text cleaning: from a text as received, with or without markdown, what a voice should speak.

In: text as received, in any split. Out: text as spoken, with its positions in the text as received. Does not
know: pieces, time.
"""

import unicodedata
from typing import Literal

from makima_tts.errors import NothingToSay
from makima_tts.text.lines import EndsSentence
from makima_tts.text.markdown import MarkdownCleaner
from makima_tts.text.visible import VisibleText, visible
from makima_tts.text.words import SpokenText

TextCleaning = Literal["markdown", "plain"]


class TextCleaner:
    """``feed``, ``flush`` and ``settle`` return the text as spoken that became certain.

    ``flush`` decides everything as if the text ended there. ``settle`` gives what a pause of the writer
    decides: never a mark, a tag or a block that is open. More may follow both.
    """

    def __init__(self, cleaning: TextCleaning, ends_sentence: EndsSentence) -> None:
        self._visible = VisibleText()
        self._markdown = MarkdownCleaner(ends_sentence) if cleaning == "markdown" else None

    def feed(self, text: str) -> SpokenText:
        seen = self._visible.feed(text)
        return seen if self._markdown is None else self._markdown.feed(seen)

    def settle(self) -> SpokenText:
        return SpokenText() if self._markdown is None else self._markdown.settle()

    def flush(self) -> SpokenText:
        seen = self._visible.flush()
        if self._markdown is None:
            return seen
        spoken = self._markdown.feed(seen)
        spoken.extend(self._markdown.flush())
        return spoken

    @property
    def held(self) -> str:
        """The end of the text as received that cannot be decided yet, without what is invisible."""
        return (self._markdown.held if self._markdown else "") + self._visible.held

    @property
    def decided_chars(self) -> int:
        """How much of the text as received is decided."""
        held_from = self._markdown.held_from if self._markdown else None
        return self._visible.received - len(self._visible.held) if held_from is None else held_from

    @property
    def left_out(self) -> list[tuple[int, int]]:
        """Where reasoning, tool calls and the like begin and end in the text as received."""
        return [] if self._markdown is None else self._markdown.left_out

    @property
    def left_out_chars(self) -> int:
        """The length of all of them, and of what is held because it may be one."""
        return 0 if self._markdown is None else self._markdown.left_out_chars


def clean(text: str) -> str:
    """NFC, visible characters only, no white space at its ends. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", visible(text)).strip()


# Text that is not spoken is kept too, for positions: so many times the limit of an utterance in all.
_LEFT_OUT_SHARE = 10


def exceeds(max_chars: int, text_chars: int, left_out_chars: int) -> bool:
    """Whether an utterance is too long. Reasoning and tool calls count only against a wider bound."""
    return text_chars - left_out_chars > max_chars or text_chars > _LEFT_OUT_SHARE * max_chars


def is_speakable(text: str) -> bool:
    """Whether it holds a letter or a number. Punctuation and emoji alone are not speech."""
    return any(map(str.isalnum, text))


# An engine ended without any audio.
NOTHING_SPOKEN = "This engine found nothing to speak in this text; send words."


def nothing_to_say(text: str) -> NothingToSay:
    """The error for a text without pieces: why nothing of it is spoken."""
    if is_speakable(text):
        return NothingToSay(
            "Nothing in this text is spoken, such as a block of code, reasoning or a tool call; send words."
        )
    return NothingToSay("There is nothing to speak in this text; send words or numbers.")
