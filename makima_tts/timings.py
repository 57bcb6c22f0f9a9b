"""When each word of an utterance is spoken, told before its audio is played.

In: the text and the audio of the pieces, as they come; times of words that an engine or an alignment knows;
the position of the listener. Out: the time of each word, once, in order. Does not know: clocks, engines.

A word whose time is known is told at once. Of the others, those that the listener is about to reach are
estimated from the usual durations of their letters, and so is what is left when a piece has ended and no
alignment is expected. Times never fall. They lie within the audio; a word that is estimated before the end of
its piece begins within what was sent.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from makima_tts.protocol import TimedWord
from makima_tts.text import Piece, usual_speech_s
from makima_tts.text.words import WordTime, words_in

# A word is told so long before its audio is played, at least: the message travels as long as audio does.
LEAD_MS = 100.0
# For those who want the best times rather than early ones: no word is told before it is certain.
NO_HURRY_MS = -math.inf


@dataclass(slots=True)
class _TimedPiece:
    """``gaps_s`` and ``lengths_s``: usual durations before and of each word; ``tail_s``: after the last one.

    ``times_ms``: known times of its first words, from its beginning.
    """

    words: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    lengths_s: list[float] = field(default_factory=list)
    tail_s: float = 0.0
    begin_ms: float | None = None
    end_ms: float | None = None
    times_ms: Sequence[tuple[float, float]] = ()
    awaits_alignment: bool = False

    def add_text(self, text: str, language: str) -> None:
        end = 0
        for word in words_in(text):
            self.words.append(text[word.start : word.end])
            self.gaps_s.append(self.tail_s + usual_speech_s(text[end : word.start], language))
            self.lengths_s.append(usual_speech_s(text[word.start : word.end], language))
            self.tail_s, end = 0.0, word.end
        self.tail_s += usual_speech_s(text[end:], language)


class WordTimer:
    """Of one utterance. ``speed``: of the audio as sent, whose milliseconds all times are."""

    def __init__(self, language: str, speed: float = 1.0, lead_ms: float = LEAD_MS) -> None:
        self.lead_ms = lead_ms
        self._language = language
        self._ms_per_usual_s = 1000 / speed
        self._pieces: list[_TimedPiece] = []
        self._text_is_open = False
        self._sent_ms = 0.0
        # The next word to tell: its piece, and its number in it.
        self._piece = self._word = 0
        # Where the last word that was told ended.
        self._told_ms = 0.0

    def add_text(self, text: str, *, ends_piece: bool) -> None:
        """A piece of the text as spoken, or a part of one."""
        if not self._text_is_open:
            self._pieces.append(_TimedPiece())
        self._text_is_open = not ends_piece
        self._pieces[-1].add_text(text, self._language)

    def add_audio(self, piece_index: int, duration_ms: float, *, ends_piece: bool) -> None:
        """Audio of a piece is about to be sent; what came before it was the audio of earlier pieces."""
        for piece in self._pieces[self._piece : piece_index + 1]:
            piece.begin_ms = self._sent_ms if piece.begin_ms is None else piece.begin_ms
        for piece in self._pieces[self._piece : piece_index]:
            piece.end_ms = self._sent_ms if piece.end_ms is None else piece.end_ms
        self._sent_ms += duration_ms
        if ends_piece:
            self._pieces[piece_index].end_ms = self._sent_ms

    def expect_alignment(self, piece_index: int) -> None:
        """Its words are not estimated before they are due."""
        self._pieces[piece_index].awaits_alignment = True

    def words_of(self, piece_index: int) -> list[str]:
        """The words of a piece; empty while its text is incomplete."""
        is_open = self._text_is_open and piece_index + 1 == len(self._pieces)
        return [] if is_open else self._pieces[piece_index].words

    def align(self, piece_index: int, times_ms: Sequence[tuple[float, float]], *, whole: bool) -> None:
        """Known times of the first words of a piece, from its beginning. ``whole``: no more will be known."""
        piece = self._pieces[piece_index]
        piece.times_ms = times_ms or piece.times_ms
        piece.awaits_alignment = piece.awaits_alignment and not whole

    def take(self, position_ms: float) -> tuple[WordTime, ...]:
        """The words that can be told now, or must be: the listener is at this position of the audio."""
        return tuple(self._take(position_ms))

    def wait_ms(self, position_ms: float) -> float:
        """How long until a word must be told, if the listener goes on from this position; inf: no word."""
        piece = self._next_piece()
        if piece is None:
            return math.inf
        start_ms, _ = self._expected_ms(piece)
        return 0.0 if self._is_final(piece) else max(0.0, start_ms - self.lead_ms - position_ms)

    @property
    def all_told(self) -> bool:
        """Whether every word that has audio was taken."""
        return self._next_piece() is None

    def _take(self, position_ms: float) -> Iterator[WordTime]:
        while self.wait_ms(position_ms) == 0.0 and (piece := self._next_piece()) is not None:
            word = self._time_in(piece)
            self._told_ms = word.end_ms
            self._word += 1
            yield word

    def _next_piece(self) -> _TimedPiece | None:
        """The piece of the next word; None while there is no audio of it."""
        while self._piece < len(self._pieces):
            piece = self._pieces[self._piece]
            if piece.begin_ms is not None and self._word < len(piece.lengths_s):
                return piece
            if piece.end_ms is None:
                return None
            self._piece, self._word = self._piece + 1, 0
            self._told_ms = max(self._told_ms, piece.end_ms)
        return None

    def _is_known(self, piece: _TimedPiece) -> bool:
        return self._word < len(piece.times_ms)

    def _is_final(self, piece: _TimedPiece) -> bool:
        """Whether nothing better can be known of the next word."""
        return self._is_known(piece) or (piece.end_ms is not None and not piece.awaits_alignment)

    def _expected_ms(self, piece: _TimedPiece) -> tuple[float, float]:
        """Begin and end of the next word, however much audio there is."""
        begin_ms = piece.begin_ms or 0.0
        if self._is_known(piece):
            start_ms, end_ms = piece.times_ms[self._word]
            return begin_ms + start_ms, begin_ms + end_ms
        scale_ms = self._scale_ms(piece)
        start_ms = max(self._told_ms, begin_ms) + piece.gaps_s[self._word] * scale_ms
        return start_ms, start_ms + piece.lengths_s[self._word] * scale_ms

    def _time_in(self, piece: _TimedPiece) -> WordTime:
        start_ms, end_ms = self._expected_ms(piece)
        # The rest of a piece may be shorter than usual, but its last word is within what was sent.
        is_last = self._word + 1 == len(piece.lengths_s)
        latest_ms = self._sent_ms if piece.end_ms is None else piece.end_ms
        start_ms = max(min(start_ms, latest_ms), self._told_ms)
        if is_last or piece.end_ms is not None:
            end_ms = min(end_ms, latest_ms)
        estimated = not self._is_known(piece)
        return WordTime(self._piece, self._word, start_ms, max(start_ms, end_ms), estimated)

    def _scale_ms(self, piece: _TimedPiece) -> float:
        """Milliseconds for each usual second of what is left of a piece."""
        if piece.end_ms is None:
            return self._ms_per_usual_s
        left_s = sum(piece.gaps_s[self._word :]) + sum(piece.lengths_s[self._word :]) + piece.tail_s
        return (piece.end_ms - max(self._told_ms, piece.begin_ms or 0.0)) / left_s if left_s else 0.0


def timed_words(text: str, pieces: Sequence[Piece], times: Sequence[WordTime]) -> tuple[TimedWord, ...]:
    """The words of these times, as they stand in the text as sent."""
    words = {index: pieces[index].words for index in {time.piece_index for time in times}}
    return tuple(
        TimedWord.of(
            text,
            *words[time.piece_index][time.word_index],
            start_ms=time.start_ms,
            end_ms=time.end_ms,
            estimated=time.estimated,
        )
        for time in times
    )


def position_after(text: str, words: Sequence[TimedWord], played_ms: float) -> int:
    """How many characters were played: those words whose end was, and the marks up to white space."""
    heard = bisect_right(words, played_ms, key=lambda word: word.end_ms)
    if heard == 0:
        return 0
    end = words[heard - 1].offset + words[heard - 1].length
    following = text[end : words[heard].offset if heard < len(words) else len(text)]
    return end + len(following.split(maxsplit=1)[0] if following[:1].strip() else "")
