"""Reading a growing text character by character, and what is spoken of it, with positions.

In: text in any split, with the position of each character in the text as received. Out: text as spoken with
such positions. Does not know: marks and rules.

The result at a position depends on the text before it and on a bounded look-ahead. A rule that cannot decide
yet waits for more text: where more text could make a pattern match, or match something else, its "begun"
pattern matches up to the end (``\\Z``). Each wait is bounded by a number of characters.
"""

import re

from makima_tts.text.words import SpokenText

LINE_ENDS = "\n\u2029"
# The last spoken characters that rules look at: a word and the marks after it.
_TAIL_CHARS = 32


def begun(*parts: str, name: str = "") -> re.Pattern[str]:
    """Matches a text that ends after any of these parts of a pattern, each of which follows the one before.

    ``name``: or within the first of them.
    """
    nested = ""
    for part in reversed(parts):
        nested = f"(?:{part}{nested})?"
    return re.compile(rf"(?:{nested}|{name})\Z")


class TextScanner:
    """``feed``, ``flush`` and ``settle`` return the text as spoken that became certain.

    A rule consumes something and returns True, or returns False to wait for more text. ``flush`` decides
    everything as if the text ended there; more may follow. ``settle`` decides only that an exclamation mark
    begins no image.
    """

    def __init__(self) -> None:
        # The text from one character before the current position, for its context; where its characters
        # begin and end in the text as received; where it begins in the whole text; and the current position.
        self._text = ""
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._base = 0
        self._at = 0
        self._ended = False
        self._spoken = SpokenText()
        # The last spoken characters, and whether a letter or number was among all of them.
        self._tail = ""
        self._has_words = False
        # Where the removed marks begin that belong to the next spoken character.
        self._opening: int | None = None
        # Something was dropped since the last spoken character; and it stood for a space between words.
        self._gap = False
        self._spaced = False

    def feed(self, received: SpokenText) -> SpokenText:
        self._text += received.text
        self._begins += received.begins
        self._ends += received.ends
        return self._consume(ended=False)

    def flush(self) -> SpokenText:
        return self._consume(ended=True)

    def settle(self) -> SpokenText:
        return self._consume(ended=self.held == "!")

    @property
    def held(self) -> str:
        """The text that is not decided yet."""
        return self._text[self._at :]

    @property
    def held_from(self) -> int | None:
        """Where it begins in the text as received; None: nothing is held."""
        return self._begins[self._at] if self._at < len(self._begins) else None

    def _consume(self, *, ended: bool) -> SpokenText:
        self._ended, self._spoken = ended, SpokenText()
        while self._at < len(self._text) and self._consume_next():
            pass
        passed = max(self._at - 1, 0)
        self._text, self._base, self._at = self._text[passed:], self._base + passed, self._at - passed
        del self._begins[:passed], self._ends[:passed]
        return self._spoken

    def _consume_next(self) -> bool:
        raise NotImplementedError

    # What rules use

    @property
    def _char(self) -> str:
        return self._text[self._at]

    @property
    def _before(self) -> str:
        return self._text[self._at - 1] if self._at else "\n"

    @property
    def _last(self) -> str:
        return self._tail[-1:]

    def _after(self, position: int) -> str:
        return self._text[position] if position < len(self._text) else "\n"

    def _match(self, pattern: re.Pattern[str], limit: int) -> re.Match[str] | None:
        """A match here, within ``limit`` characters: later text may not have arrived."""
        return pattern.match(self._text, self._at, self._at + limit)

    def _must_wait(self, begun: re.Pattern[str], limit: int, position: int | None = None) -> bool:
        position = self._at if position is None else position
        short = not self._ended and len(self._text) - position < limit
        return short and begun.match(self._text, position) is not None

    def _may_grow(self, run: re.Match[str]) -> bool:
        """Whether more text may extend what matched, or has to follow it. Patterns bound runs of one mark."""
        return run.end() == len(self._text) and not self._ended

    def _emit(self, text: str, length: int) -> bool:
        """Speak ``text`` for the next ``length`` characters."""
        here = slice(self._at, self._at + length)
        begins, ends = self._begins[here], self._ends[here]
        if len(text) != length:
            begins, ends = begins[:1] * len(text), ends[-1:] * len(text)
        self._at += length
        if self._gap:
            text, begins, ends = self._closing_gap(text, begins, ends)
        if text:
            start = begins[0] if self._opening is None else self._opening
            self._spoken.extend(SpokenText(text, [start, *begins[1:]], begins, ends))
            self._tail = (self._tail + text)[-_TAIL_CHARS:]
            self._has_words = self._has_words or any(map(str.isalnum, text))
            self._gap, self._spaced, self._opening = False, False, None
        return True

    def _closing_gap(self, text: str, begins: list[int], ends: list[int]) -> tuple[str, list[int], list[int]]:
        """One space where something stood between two; and one where it separated words."""
        if self._last.isspace():
            kept = text.lstrip(" \t")
            dropped = len(text) - len(kept)
            return kept, begins[dropped:], ends[dropped:]
        if self._spaced and self._last.isalnum() and text[:1].isalnum():
            return " " + text, begins[:1] + begins, begins[:1] + ends
        return text, begins, ends

    def _emit_char(self) -> bool:
        return self._emit(self._char, 1)

    def _emit_within(self, found: re.Match[str], group: int | str) -> bool:
        """Speak a group of what matched here, and drop the rest of it."""
        begin, end = found.span(group)
        self._drop_opening(begin - found.start())
        if end > begin:
            self._emit(found.group(group), end - begin)
        return self._drop(found.end() - end)

    def _drop_opening(self, length: int) -> bool:
        """Drop a mark that belongs to the text after it."""
        if length and self._opening is None:
            self._opening = self._begins[self._at]
        self._at += length
        self._gap = True
        return True

    def _drop(self, length: int) -> bool:
        """Drop something that belongs to the text before it."""
        self._at += length
        self._opening = None
        self._gap = True
        return True

    def _space_follows(self) -> bool:
        """What was dropped or spoken last separates words."""
        self._gap = self._spaced = True
        return True
