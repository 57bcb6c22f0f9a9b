"""Cuts a growing text into pieces, the same ones however the text arrives.

In: text as received, in any split; a flush; the end. Out: pieces of cleaned text with their offsets. Does
not know: time (a cut never depends on when text came), engines.

A cut after position ``p`` depends on the text before ``p`` and at most :data:`LOOK_AHEAD_CHARS` after it,
so it is made only once that much has arrived, or the text has ended. Hence *prefix-stable*: feeding a text
character by character, or at once, gives the same pieces. Only ``flush`` adds a cut of its own.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from makima_tts.text.cleaning import clean, is_speakable

# Enough to see past closing quotes, a space and the next word's first letter.
LOOK_AHEAD_CHARS = 8
# A first piece that is a clause is heard sooner; later pieces are better whole sentences.
FIRST_CLAUSE_CHARS = 24
SOFT_LIMIT_CHARS = 200
HARD_LIMIT_CHARS = 300
# Fewer than this (“OK.”, “1.”) is joined to what follows: very short prompts are a model’s weak spot.
SHORTEST_CHARS = 8

_SENTENCE_ENDS = frozenset(".!?…。！？।؟\n\u2029")
_WIDE_SENTENCE_ENDS = frozenset("。！？\n\u2029")
_CLAUSE_ENDS = frozenset(",;:—，、；：")
_WIDE_CLAUSE_ENDS = frozenset("，、；：")
_CLOSERS = frozenset("\"'’”)]}»」』）")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e no vol fig approx inc ltd co gen rev hon dept u.s u.k a.m p.m".split()
)
_LAST_WORD = re.compile(r"[\w.]*\w\Z")


@dataclass(frozen=True, slots=True)
class Piece:
    """``text`` is cleaned; ``start`` and ``end`` are code points into the utterance as received."""

    index: int
    text: str = field(repr=False)
    start: int
    end: int


class Segmenter:
    """One utterance's text. ``feed``, ``flush`` and ``finish`` return the pieces that became certain."""

    def __init__(self) -> None:
        self._held = ""
        self._start = 0
        self._index = 0

    @property
    def holds_speech(self) -> bool:
        """Whether text that could be spoken waits for a cut."""
        return is_speakable(self._held)

    def feed(self, text: str) -> list[Piece]:
        """Append text, on no boundary at all."""
        self._held += text
        return list(self._certain(ended=False))

    def flush(self) -> list[Piece]:
        """Everything held so far, cut at its end."""
        return self.finish()

    def finish(self) -> list[Piece]:
        """Everything held so far; the text has ended."""
        pieces = list(self._certain(ended=True))
        pieces += self._cut(len(self._held))
        return pieces

    def _certain(self, *, ended: bool) -> Iterator[Piece]:
        while (end := self._next_cut(ended=ended)) is not None:
            yield from self._cut(end)

    def _next_cut(self, *, ended: bool) -> int | None:
        """Where the next piece ends, if the held text already decides it."""
        held = self._held
        known = len(held) if ended else len(held) - LOOK_AHEAD_CHARS
        last_space = last_clause = None
        for end in range(1, known + 1):
            if end > SHORTEST_CHARS and self._ends_piece(end, ended=ended):
                return end
            if _is_clause_end(held, end):
                last_clause = end
            if held[end - 1].isspace():
                last_space = end
            if end >= SOFT_LIMIT_CHARS and last_clause is not None:
                return last_clause
            if end >= HARD_LIMIT_CHARS:
                return last_space or _whole_cluster(held, end)
        return None

    def _ends_piece(self, end: int, *, ended: bool) -> bool:
        held = self._held
        if end == len(held) and ended:
            return False
        if not is_speakable(held[:end]):
            return False
        first_clause = self._index == 0 and end >= FIRST_CLAUSE_CHARS and _is_clause_end(held, end)
        return first_clause or _is_sentence_end(held, end)

    def _cut(self, end: int) -> Iterator[Piece]:
        raw, self._held = self._held[:end], self._held[end:]
        start = self._start
        self._start += end
        text = clean(raw)
        if is_speakable(text):
            yield Piece(self._index, text, start, start + end)
            self._index += 1


def _without_closers(text: str, end: int) -> int:
    """The position before the closing quotes and brackets that end at ``end``."""
    while end > 1 and text[end - 1] in _CLOSERS:
        end -= 1
    return end


def _is_sentence_end(text: str, end: int) -> bool:
    """Whether a sentence ends just before ``end``: its end mark, closers, and then space or a wide mark."""
    if text[end - 1] in "\n\u2029":
        return True
    following = text[end : end + 1]
    if following in _CLOSERS and following:
        return False
    mark = _without_closers(text, end)
    if text[mark - 1] not in _SENTENCE_ENDS:
        return False
    if text[mark - 1] in _WIDE_SENTENCE_ENDS:
        return following not in _SENTENCE_ENDS or not following
    return following.isspace() and not _is_abbreviation(text, mark) and not _goes_on(text, end)


def _is_abbreviation(text: str, mark: int) -> bool:
    """A full stop after a title, an initial or a list number does not end a sentence."""
    if text[mark - 1] != ".":
        return False
    word = _LAST_WORD.search(text[max(0, mark - 16) : mark - 1])
    if word is None:
        return False
    found = word.group()
    return (
        found.lower() in _ABBREVIATIONS
        or (len(found) == 1 and found.isalpha())
        or (len(found) <= 2 and found.isdigit())
    )


def _goes_on(text: str, end: int) -> bool:
    """A lower-case letter after a full stop: the sentence goes on."""
    following = text[end : end + LOOK_AHEAD_CHARS].lstrip()
    return text[_without_closers(text, end) - 1] == "." and following[:1].islower()


def _is_clause_end(text: str, end: int) -> bool:
    mark = text[end - 1]
    return mark in _CLAUSE_ENDS and (mark in _WIDE_CLAUSE_ENDS or text[end : end + 1].isspace())


def _whole_cluster(text: str, end: int) -> int:
    """Not between a letter and its combining marks."""
    while end > 1 and end < len(text) and unicodedata.combining(text[end]):
        end -= 1
    return end
