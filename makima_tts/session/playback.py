"""What was sent of an utterance, and how far into its text the listener has come.

The position is an estimate. Where a piece is known to begin and end, its words are spread over it as
``usual_speech_s`` says; where its end is not generated yet, it is expected as late as that.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from makima_tts.text.cleaning import SpokenText
from makima_tts.text.durations import usual_speech_s
from makima_tts.text.segmenter import Piece

# Scripts without spaces are counted by the character.
_WORD = re.compile("[\u2e80-\U0003ffff]|[^\\s\u2e80-\U0003ffff]+")


@dataclass(slots=True)
class SentAudio:
    """Counts of one utterance; ``piece_ends_ms``: where its first pieces ended in the audio."""

    samples: int = 0
    chunks: int = 0
    source_ms: float = 0.0
    synthesis_s: float = 0.0
    first_ms: int | None = None
    last_ms: int = 0
    piece_ends_ms: list[float] = field(default_factory=list)

    def rtf(self) -> float | None:
        return round(self.synthesis_s * 1000 / self.source_ms, 4) if self.source_ms else None


def text_position(
    spoken: SpokenText,
    pieces: Sequence[Piece],
    sent: SentAudio,
    *,
    played_ms: float | None,
    speed: float,
    language: str,
) -> int:
    """How many characters of the received text were played. ``played_ms`` None: all audio that was sent."""
    played_ms = sent.source_ms if played_ms is None else min(played_ms, sent.source_ms)
    begin_ms = 0.0
    for piece, end_ms in zip(pieces, sent.piece_ends_ms, strict=False):
        if played_ms < end_ms:
            return _within(spoken, piece, (played_ms - begin_ms) / (end_ms - begin_ms), language)
        begin_ms = end_ms
    unfinished = pieces[len(sent.piece_ends_ms) :]
    if not unfinished:
        return pieces[-1].end if sent.piece_ends_ms else 0
    expected_ms = usual_speech_s(unfinished[0].text, language) * 1000 / speed
    length_ms = max(expected_ms, sent.source_ms - begin_ms)
    return _within(spoken, unfinished[0], (played_ms - begin_ms) / length_ms, language)


def _within(spoken: SpokenText, piece: Piece, share: float, language: str) -> int:
    """The position in the received text after this share of the piece, between words."""
    first, end = (bisect_left(spoken.starts, position) for position in (piece.start, piece.end))
    left_s = share * usual_speech_s(piece.text, language)
    played = first
    for word in _WORD.finditer(spoken.text, first, end):
        left_s -= usual_speech_s(word.group(), language)
        if left_s < -1e-9:
            break
        played = word.end()
    return spoken.starts[played] if played < end else piece.end
