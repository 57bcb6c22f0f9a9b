"""Cuts a growing text into pieces, the same pieces however the text arrives.

In: text as received, in any split; a settle, a flush; the end. Out: pieces of cleaned text with their
positions in the text as received, and partial text of the next piece. Does not know: time (a cut never
depends on when text arrives), engines.

Cleaning comes first; the text as spoken is cut. The segmenter examines positions one after the other, a
position after a mark once LOOK_AHEAD_CHARS follow it or the text has ended, and decides by nothing further
on. So it is *prefix-stable*: text fed character by character gives the pieces of the whole text. Only
``settle`` and ``flush`` add a cut: the same text with the same calls between gives the same pieces.
Libraries for sentence segmentation do not fit: they need the whole text, look ahead without bound, and have
no limit of length.

The rules of boundaries are heuristics for the ten languages and the scripts beside them; the language of the
utterance selects only the table of abbreviations. The worst result of a wrong one is a pause too many or too
few.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from makima_tts.text.abbreviations import BEFORE_NUMBERS, abbreviations_of
from makima_tts.text.cleaning import TextCleaner, TextCleaning, clean, exceeds, is_speakable
from makima_tts.text.scanner import LINE_ENDS
from makima_tts.text.words import SpokenText, TextSpan

# Past closing quotes and white space to the first letter of the next word.
LOOK_AHEAD_CHARS = 8
# A clause as first piece is heard sooner; later pieces are better whole sentences. Sixteen letters are a
# second of speech: time enough to begin the next piece.
FIRST_CLAUSE_CHARS = 16
# From here on the end of a clause will do; and from the hard limit on, any position.
SOFT_LIMIT_CHARS = 200
HARD_LIMIT_CHARS = 300
# A forced cut is not before this: tiny pieces sound chopped.
SHORTEST_FORCED_CHARS = 100
# Fewer letters and digits than this ("OK.", "1.") are joined to the following text: models speak very short
# prompts badly.
SHORTEST_SPOKEN_CHARS = 6

# What ends at a position. A reader pauses longer after a sentence.
Boundary = Literal["sentence", "clause"]

# Narrow marks end something where white space follows ("3.14", "12:30"); or by _unspaced_boundary.
_SENTENCE_MARKS = frozenset(".!?…．")  # noqa: RUF001
_CLAUSE_MARKS = frozenset(",;:—،؛")
# Wide marks, and those of scripts in which they stand in no number or name, need none.
_WIDE_SENTENCE_MARKS = frozenset("。！？｡।॥؟۔")  # noqa: RUF001 - these are the wide ones
_WIDE_CLAUSE_MARKS = frozenset("，、；：､")  # noqa: RUF001
_CLOSERS = "\"')]}»”」』）｣\N{RIGHT SINGLE QUOTATION MARK}"  # noqa: RUF001
_NARROW_MARKS = "".join(_SENTENCE_MARKS | _CLAUSE_MARKS)
# After these the sentence may go on: “Stop!” he said.
_QUOTES = frozenset("\"'»”」』｣\N{RIGHT SINGLE QUOTATION MARK}")
_NOT_YET = frozenset(_CLOSERS) | _SENTENCE_MARKS | _WIDE_SENTENCE_MARKS
_ENDINGS = _NOT_YET | _CLAUSE_MARKS | _WIDE_CLAUSE_MARKS

# Chinese and Japanese have no space before a foreign word.
_LAST_WORD = re.compile(r"(?:[^\W\u2e80-\U0010ffff]|\.)*[^\W\u2e80-\U0010ffff]\Z|\w\Z")
_LAST_WORD_CHARS = 16
# U.S, a.m, z.B, p.ej: letters with full stops between them.
_DOTTED = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_ROMAN_NUMERAL = re.compile(r"(?:[IVXLC]{2,}|[VX])(?!\w)")
# The end of a word of prose, and the beginning of one: no address, file name, version or code.
_PROSE_WORD = re.compile(r"(?:^|\s)[^\s./@\\#=:_\d]*[^\W\d_]{2}[^\W\d_]*[.!?…]*\Z")
_PROSE_WORD_CHARS = 40
_SENTENCE_START = re.compile(r"[^\W\d_](?!\.|[^\s]*[(_@/\\=]|\w*\.\w)")
_FIRST_WIDE = "\u2e80"

# White space up to a line break ends what a mark has ended; nothing after it matters.
_LINE_BREAK = re.compile(rf"[^\S{LINE_ENDS}]*[{LINE_ENDS}]")
# What a writer has begun after a sentence, but which is no part of its last word: held marks of emphasis.
_CLOSING_MARKS = "*_~`"

# The combining class of the marks that join Indic consonants.
_VIRAMA = 9
_ZERO_WIDTH_JOINER = "\u200d"
_HANGUL_VOWELS_AND_FINALS = ("\u1160", "\u11ff")
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


@dataclass(frozen=True, slots=True)
class Piece:
    """``text`` is cleaned; ``start`` and ``end`` are code points into the utterance as received.

    A piece starts where the one before it ended: they tile the text up to the last one's end, and what
    follows holds no speech. ``spoken``: its text before the last step of
    cleaning, which composes characters.
    """

    index: int
    text: str = field(repr=False)
    start: int
    end: int
    spoken: SpokenText = field(default_factory=SpokenText, repr=False)

    @property
    def words(self) -> list[TextSpan]:
        """Where its words stand in the utterance as received."""
        return self.spoken.words()


class Segmenter:
    """Segments one utterance. ``feed``, ``settle`` and ``flush`` return the pieces that became certain."""

    def __init__(self, cleaning: TextCleaning = "markdown", language: str = "") -> None:
        """``language``: an English name; any other, Auto too, is an unknown one."""
        self._abbreviations = abbreviations_of(language)
        self._cleaner = cleaner_of(cleaning, language)
        # How long the text as spoken was, without what a flush decided.
        self.spoken_chars = 0
        self._index = 0
        self._piece_start = 0
        self._restart(SpokenText())

    def _restart(self, buffered: SpokenText) -> None:
        """Examine text from its beginning. Positions count from there; 0 is none."""
        self._buffered = buffered
        # Positions before this were examined, and are no cuts.
        self._examined = 0
        # Letters and digits, and the last end of a clause, up to there.
        self._spoken_chars = 0
        self._clause_end = 0

    def feed(self, text: str) -> list[Piece]:
        """Append text, in any split."""
        spoken = self._cleaner.feed(text)
        self.spoken_chars += len(spoken.text)
        self._buffered.extend(spoken)
        return list(self._certain_pieces(look_ahead=LOOK_AHEAD_CHARS))

    def settle(self) -> list[Piece]:
        """The writer pauses: the sentences that have ended, cut with the look-ahead there is.

        Nothing else is decided: no cut is within a word, a number or a mark, as far as the text shows.
        """
        self._buffered.extend(self._cleaner.settle())
        end = self._last_sentence_end()
        pieces: list[Piece] = []
        while end and (position := self._next_cut(look_ahead=1, stop=end)) is not None:
            pieces += self._cut(position)
            end -= position
        return [*pieces, *self._cut(end), *self._certain_pieces(look_ahead=LOOK_AHEAD_CHARS)] if end else []

    def _last_sentence_end(self) -> int:
        """Beyond the partial text, which was given away; 0: none."""
        text, begun = self._buffered.text, self._cleaner.held.lstrip(_CLOSING_MARKS)[:1]
        complete = len(text) - 1 if begun and not begun.isspace() else len(text)
        ends = (
            at for at in range(complete, self._partial_end(), -1) if _has_ended(text, at, self._abbreviations)
        )
        end = next(ends, 0)
        return end if is_speakable(text[:end]) else 0

    def flush(self) -> list[Piece]:
        """The rest of the text, cut at its end; more may follow."""
        self._buffered.extend(self._cleaner.flush())
        return [*self._certain_pieces(look_ahead=1), *self._cut(len(self._buffered.text))]

    @property
    def left_out_chars(self) -> int:
        """How much of the text as received is reasoning, tool calls and the like."""
        return self._cleaner.left_out_chars

    def without_left_out(self, text: str, piece: Piece) -> str:
        """What a piece is of the text as received, without such blocks."""
        parts, start = "", piece.start
        for begin, end in self._cleaner.left_out:
            if start < end and begin < piece.end:
                parts, start = parts + text[start:begin], end
        return (parts + text[start : piece.end]).strip()

    @property
    def partial_text(self) -> str:
        """The beginning of the next piece, as far as no later text can change it: whole words.

        Until that piece is cut it only grows.
        """
        text = self._buffered.text[: self._partial_end()]
        return unicodedata.normalize("NFC", text.lstrip()) if is_speakable(text) else ""

    @property
    def partial_spoken(self) -> SpokenText:
        """``partial_text`` with its positions in the utterance as received."""
        return self._buffered.first(self._partial_end())

    def _partial_end(self) -> int:
        text = self._buffered.text[: SHORTEST_FORCED_CHARS + 1]
        positions = range(min(self._examined, SHORTEST_FORCED_CHARS, len(text) - 1), 0, -1)
        return next((position for position in positions if ends_word(text, position)), 0)

    def _certain_pieces(self, *, look_ahead: int) -> Iterator[Piece]:
        """``look_ahead``: so many code points must follow a mark before the position after it is examined."""
        while (position := self._next_cut(look_ahead)) is not None:
            yield from self._cut(position)

    def _next_cut(self, look_ahead: int, stop: int | None = None) -> int | None:
        """Before ``stop``."""
        text, seen = self._buffered.text, len(self._buffered.text) - look_ahead
        for end in range(self._examined + 1, len(text) if stop is None else stop):
            if end > seen and text[end - 1] in _ENDINGS and not _is_decided(text, end):
                return None
            self._examined = end
            if (position := self._examine(end)) is not None:
                return position
        return None

    def _examine(self, end: int) -> int | None:
        """Where to cut, given that no position before ``end`` is a cut."""
        if self._buffered.text[end - 1].isalnum():
            self._spoken_chars += 1
        elif self._ends_piece(end):
            return end
        return self._forced_cut(end) if end >= SOFT_LIMIT_CHARS else None

    def _ends_piece(self, end: int) -> bool:
        # Before the first letter there is nothing to end.
        found = boundary(self._buffered.text, end, self._abbreviations) if self._spoken_chars else None
        if found is None:
            return False
        self._clause_end = end
        first_clause = self._index == 0 and end >= FIRST_CLAUSE_CHARS
        return self._spoken_chars >= SHORTEST_SPOKEN_CHARS and (found == "sentence" or first_clause)

    def _forced_cut(self, end: int) -> int | None:
        """The best earlier position, once the text is longer than a limit."""
        if self._clause_end >= SHORTEST_FORCED_CHARS:
            return self._clause_end
        if end < HARD_LIMIT_CHARS:
            return None
        for is_better in (self._ends_phrase, _ends_space, _ends_word, _ends_character):
            positions = range(end, SHORTEST_FORCED_CHARS - 1, -1)
            if best := next((at for at in positions if is_better(self._buffered.text, at)), 0):
                return best
        return end

    def _ends_phrase(self, text: str, end: int) -> bool:
        """After white space that is not within "Dr. Smith" or "z. B."."""
        if not _ends_space(text, end):
            return False
        before = text[max(end - _PROSE_WORD_CHARS, 0) : end].rstrip()
        return before[-1:] != "." or not _is_abbreviated(before, self._abbreviations)

    def _cut(self, position: int) -> Iterator[Piece]:
        spoken, rest = self._buffered.take(position), self._buffered
        end = rest.starts[0] if rest.text else self._cleaner.decided_chars
        self._restart(rest)
        if is_speakable(spoken.text):
            yield Piece(self._index, clean(spoken.text), self._piece_start, end, spoken)
            self._index += 1
            self._piece_start = end


def cleaner_of(cleaning: TextCleaning, language: str = "") -> TextCleaner:
    abbreviations = abbreviations_of(language)
    return TextCleaner(cleaning, lambda line: ends_sentence(line, abbreviations))


def spoken_text(text: str, cleaning: TextCleaning, language: str = "") -> SpokenText:
    """A whole text as spoken, not cut."""
    cleaner = cleaner_of(cleaning, language)
    spoken = cleaner.feed(text)
    spoken.extend(cleaner.flush())
    return spoken


def pieces_of(text: str, cleaning: TextCleaning = "markdown", language: str = "") -> list[Piece]:
    segmenter = Segmenter(cleaning, language)
    return [*segmenter.feed(text), *segmenter.flush()]


def pieces_within(max_chars: int, text: str, cleaning: TextCleaning, language: str) -> list[Piece] | None:
    """None: the text is too long, which is found before all of it is cleaned."""
    segmenter, pieces = Segmenter(cleaning, language), list[Piece]()
    for end in range(max_chars, len(text) + max_chars, max_chars):
        pieces += segmenter.feed(text[end - max_chars : end])
        if exceeds(max_chars, min(end, len(text)), segmenter.left_out_chars):
            return None
    return pieces + segmenter.flush()


def boundary(text: str, end: int, abbreviations: frozenset[str]) -> Boundary | None:
    """What ends between ``text[end - 1]`` and ``text[end]``; both must exist."""
    last, following = text[end - 1], text[end]
    if last in LINE_ENDS:
        return "sentence"
    if last not in _ENDINGS or following in _NOT_YET:
        return None
    before_closers = text[:end].rstrip(_CLOSERS)
    if last == "»":
        before_closers = before_closers.rstrip()  # French: "« Oui ! »"
    mark, quoted = before_closers[-1:], len(before_closers) < end
    if mark in _WIDE_CLAUSE_MARKS:
        return "clause"
    if mark in _WIDE_SENTENCE_MARKS:
        # A quotation is often followed by “he said”.
        return "clause" if quoted and not following.isspace() else "sentence"
    ahead = text[end : end + LOOK_AHEAD_CHARS]
    if following.isspace():
        return _spaced_boundary(before_closers, ahead, abbreviations, quoted=quoted)
    found = _unspaced_boundary(before_closers, ahead, abbreviations)
    return "clause" if found and quoted else found


def ends_sentence(text: str, abbreviations: frozenset[str]) -> bool:
    """Whether a sentence ends at the end of a line, whatever the next line is."""
    return text[-1:] not in _QUOTES and boundary(text + " ", len(text), abbreviations) == "sentence"


def _is_decided(text: str, end: int) -> bool:
    """Whether what follows beyond the text that is there cannot change the boundary after a mark."""
    return text[end] in _NOT_YET or _LINE_BREAK.match(text, end) is not None


def _has_ended(text: str, end: int, abbreviations: frozenset[str]) -> bool:
    """Whether a sentence ends before ``end``, where ``text`` may end: what could follow is not known."""
    if text[end - 1] in LINE_ENDS or boundary(text + " ", end, abbreviations) != "sentence":
        return False
    before = text[:end].rstrip(_CLOSERS)
    return end < len(text) or not (before[-1:] == "." and before[-2:-1].isdigit())  # "3." of "3.14"


def _spaced_boundary(
    text: str, following: str, abbreviations: frozenset[str], *, quoted: bool
) -> Boundary | None:
    """``text`` ends with a narrow mark, without its closing quotes and brackets; white space follows."""
    mark = text[-1:]
    if mark in _CLAUSE_MARKS:
        return "clause"
    next_word = "" if _LINE_BREAK.match(following) else following.lstrip()
    if mark not in _SENTENCE_MARKS or (mark == "." and _is_abbreviated(text, abbreviations, next_word)):
        return None
    if (next_word[:1].isdigit() and mark == ".") or re.match(r"»(?!\w)", next_word):  # "No. 5", "Oui ! »"
        return None
    # The sentence continues in "Wait... what" and "'Why?' she asked".
    continues = next_word[:1].islower() and (quoted or mark in ".…")
    return "clause" if continues else "sentence"


def _unspaced_boundary(text: str, following: str, abbreviations: frozenset[str]) -> Boundary | None:
    """As above, where something else than white space follows: a missing space, or a script without spaces.

    "one.Two" is two sentences; example.com, 3.14, v1.2.3, README.md and e.g.this are one word.
    """
    mark, word, after = text[-1:], text.rstrip(_NARROW_MARKS)[-1:], following[0]
    if _is_uncased(word) and mark in _CLAUSE_MARKS | {"…"}:
        return "clause"
    if mark not in _SENTENCE_MARKS or not after.isalpha() or (word.isnumeric() and after.isnumeric()):
        return None
    if word >= _FIRST_WIDE and word.isalpha():
        return None if mark == "." and after.islower() else "sentence"
    begins = (_is_uncased(after) or after.isupper()) and not following[1:2].isupper()
    begins = begins and (after >= _FIRST_WIDE or _SENTENCE_START.match(following) is not None)
    prose = _PROSE_WORD.search(text[-_PROSE_WORD_CHARS:]) and not _is_abbreviated(text, abbreviations)
    return "sentence" if begins and prose else None


def _is_uncased(char: str) -> bool:
    """Whether it is a letter of a script without capitals."""
    return char.isalpha() and char.lower() == char.upper()


def _is_abbreviated(text: str, abbreviations: frozenset[str], next_word: str = "") -> bool:
    """Whether the full stop at its end belongs to a title, an initial, an ordinal or the like."""
    found = _LAST_WORD.search(text[-1 - _LAST_WORD_CHARS : -1])
    if found is None:
        return False
    word, lower = found.group(), found.group().lower()
    if (len(word) == 1 and word.isalpha() and word < _FIRST_WIDE) or (len(word) <= 2 and word.isdigit()):
        return True
    if lower in BEFORE_NUMBERS and _ROMAN_NUMERAL.match(next_word):
        return True
    return word in abbreviations or lower in abbreviations or _DOTTED.fullmatch(lower) is not None


def ends_word(text: str, position: int) -> bool:
    """Whether whole words stand before ``position``, for a tokenizer too; both sides must exist.

    Tokenizers join a mark to the letters after it, and a line end to the mark before it. Scripts without
    spaces end words at their marks alone: their tokens are words, not characters.
    """
    before, after = text[position - 1], text[position]
    if before.isspace():
        return False
    return (after.isspace() and after not in "\r\n") or (
        before.isalnum() and after in _WIDE_CLAUSE_MARKS | _WIDE_SENTENCE_MARKS
    )


def _ends_space(text: str, end: int) -> bool:
    return text[end - 1].isspace() and not (text[end - 2].isdigit() and text[end].isdigit())


def _ends_word(text: str, end: int) -> bool:
    """Whether no word, number or mark is divided; scripts without spaces have words of one character."""
    before, after = text[end - 1], text[end]
    if before.isalnum() and after.isalnum() and (before < _FIRST_WIDE or after < _FIRST_WIDE):
        return False
    in_number = after.isdigit() and text[end - 2].isdigit()
    return not (in_number or after in _ENDINGS) and _ends_character(text, end)


def _ends_character(text: str, end: int) -> bool:
    """Whether a cut would split no visible character: marks, conjuncts, joined emoji, Hangul, CR LF.

    These are the rules of Unicode's grapheme clusters that matter to speech, and to emoji on a screen.
    """
    before, after = text[end - 1], text[end]
    return not (
        unicodedata.category(after)[0] == "M"
        or unicodedata.combining(before) == _VIRAMA
        or _ZERO_WIDTH_JOINER in (before, after)
        or _HANGUL_VOWELS_AND_FINALS[0] <= after <= _HANGUL_VOWELS_AND_FINALS[1]
        or _SKIN_TONES[0] <= after <= _SKIN_TONES[1]
        or before + after == "\r\n"
    )
