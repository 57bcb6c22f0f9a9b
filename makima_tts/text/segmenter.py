"""Cuts a growing text into pieces, the same ones however the text arrives.

In: text as received, in any split; a flush; the end. Out: pieces of cleaned text with their offsets, and
what is certain of the next one. Does not know: time (a cut never depends on when text came), engines.

The text is cleaned first, and what is spoken of it is cut. Places are judged one after the other, one after
a mark once LOOK_AHEAD_CHARS have followed or the text has ended, and by nothing that lies further on. Hence
*prefix-stable*: feeding a text character by character, or at once, gives the same pieces. Only ``flush``
adds a cut. Libraries that find sentences do not fit: they want the whole text, look ahead without bound, and
keep no limit of length.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from makima_tts.text.boundaries import (
    LOOK_AHEAD_CHARS,
    Boundary,
    boundary,
    ends_word,
    is_within_character,
    may_end,
)
from makima_tts.text.cleaning import Cleaner, PlainCleaner, SpokenText, TextCleaning, clean, is_speakable
from makima_tts.text.markdown import MarkdownCleaner

# A first piece that is a clause is heard sooner; later pieces are better whole sentences. Sixteen letters
# are a second of speech: time enough to begin with the piece after it.
FIRST_CLAUSE_CHARS = 16
# From here on a clause's end will do; and from the hard limit on, any place.
SOFT_LIMIT_CHARS = 200
HARD_LIMIT_CHARS = 300
# Text that must be cut is not cut before this: tiny pieces sound chopped.
SHORTEST_FORCED_CHARS = 100
# Fewer letters and digits than this ("OK.", "1.") are joined to what follows: very short prompts are a
# model's weak spot.
SHORTEST_SPOKEN_CHARS = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """``text`` is cleaned; ``start`` and ``end`` are code points into the utterance as received.

    A piece starts where the one before it ended, so that they tile the text up to the last one's end; what
    is left over after that holds no speech.
    """

    index: int
    text: str = field(repr=False)
    start: int
    end: int


@dataclass(slots=True)
class _Scan:
    """What is known of the held text. Places are counted from its beginning; 0 is none."""

    judged: int = 0
    spoken: int = 0
    clause: int = 0
    space: int = 0


class Segmenter:
    """One utterance's text. ``feed``, ``flush`` and ``finish`` return the pieces that became certain."""

    def __init__(self, cleaning: TextCleaning = "markdown") -> None:
        self._cleaner = _cleaner(cleaning)
        self._received = 0
        self._held = SpokenText()
        self._scan = _Scan()
        self._index = 0
        self._piece_start = 0

    def feed(self, text: str) -> list[Piece]:
        """Append text, on no boundary at all."""
        self._received += len(text)
        self._hold(self._cleaner.feed(text))
        return list(self._certain_pieces(look_ahead=LOOK_AHEAD_CHARS))

    def flush(self) -> list[Piece]:
        """Everything held so far, cut at its end; more may follow."""
        self._hold(self._cleaner.flush())
        return [*self._certain_pieces(look_ahead=1), *self._cut(len(self._held.text))]

    def finish(self) -> list[Piece]:
        """Everything held so far; the text has ended."""
        return self.flush()

    @property
    def partial_piece(self) -> str:
        """What the next piece begins with, whatever comes: whole words, before which no cut can fall.

        Until that piece is cut it only grows.
        """
        text = self._held.text[: SHORTEST_FORCED_CHARS + 1]
        places = range(min(self._scan.judged, SHORTEST_FORCED_CHARS, len(text) - 1), 0, -1)
        end = next((place for place in places if ends_word(text, place)), 0)
        return unicodedata.normalize("NFC", text[:end].lstrip()) if is_speakable(text[:end]) else ""

    def _hold(self, spoken: SpokenText) -> None:
        self._held.text += spoken.text
        self._held.starts += spoken.starts

    def _certain_pieces(self, *, look_ahead: int) -> Iterator[Piece]:
        """``look_ahead``: so many code points must follow a mark before the place after it is judged."""
        while (place := self._next_cut(look_ahead)) is not None:
            yield from self._cut(place)

    def _next_cut(self, look_ahead: int) -> int | None:
        text, seen = self._held.text, len(self._held.text) - look_ahead
        for end in range(self._scan.judged + 1, len(text)):
            if end > seen and may_end(text[end - 1]):
                return None
            self._scan.judged = end
            if (place := self._judge(end)) is not None:
                return place
        return None

    def _judge(self, end: int) -> int | None:
        """Where to cut, now that all places before ``end`` were judged and not cut at."""
        if self._held.text[end - 1].isalnum():
            self._scan.spoken += 1
        elif self._ends_piece(end):
            return end
        return self._forced_cut(end) if end >= SOFT_LIMIT_CHARS else None

    def _ends_piece(self, end: int) -> bool:
        scan = self._scan
        if self._held.text[end - 1].isspace():
            scan.space = end
        # Silence has no end to find.
        found = boundary(self._held.text, end) if scan.spoken else Boundary.NONE
        if found is Boundary.NONE:
            return False
        scan.clause = end
        first_clause = self._index == 0 and end >= FIRST_CLAUSE_CHARS
        return scan.spoken >= SHORTEST_SPOKEN_CHARS and (found is Boundary.SENTENCE or first_clause)

    def _forced_cut(self, end: int) -> int | None:
        """The best place behind us, once the text has grown over a limit."""
        if self._scan.clause >= SHORTEST_FORCED_CHARS:
            return self._scan.clause
        if end < HARD_LIMIT_CHARS:
            return None
        if self._scan.space >= SHORTEST_FORCED_CHARS:
            return self._scan.space
        whole = (
            place
            for place in range(end, SHORTEST_FORCED_CHARS, -1)
            if not is_within_character(self._held.text, place)
        )
        return next(whole, end)

    def _cut(self, place: int) -> Iterator[Piece]:
        text, starts = self._held.text, self._held.starts
        end = starts[place] if place < len(starts) else self._received
        self._held = SpokenText(text[place:], starts[place:])
        self._scan = _Scan()
        if is_speakable(text[:place]):
            yield Piece(self._index, clean(text[:place]), self._piece_start, end)
            self._index += 1
            self._piece_start = end


def _cleaner(cleaning: TextCleaning) -> Cleaner:
    return MarkdownCleaner() if cleaning == "markdown" else PlainCleaner()


def spoken_text(text: str, cleaning: TextCleaning) -> SpokenText:
    """What of a whole text is spoken, uncut."""
    cleaner = _cleaner(cleaning)
    begun, rest = cleaner.feed(text), cleaner.flush()
    return SpokenText(begun.text + rest.text, begun.starts + rest.starts)


def pieces_of(text: str, cleaning: TextCleaning = "markdown") -> list[Piece]:
    """The pieces of a text that is whole."""
    segmenter = Segmenter(cleaning)
    return [*segmenter.feed(text), *segmenter.finish()]
