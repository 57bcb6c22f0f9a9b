"""How far into a text its listener has come.

In: a text as received, its pieces, when each of them ended in the audio, how much was heard. Out: a place in
that text, between words. Does not know: utterances, messages.

An estimate: where a piece is known to begin and end, its words are taken to be spread over it as
``usual_speech_s`` has it; where its end is not made yet, it is expected then.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from makima_tts.text import Piece, Spoken, usual_speech_s

# Scripts without spaces are read by the character.
_WORD = re.compile("[\u2e80-\U0003ffff]|[^\\s\u2e80-\U0003ffff]+")


@dataclass(frozen=True, slots=True)
class Sounded:
    """``ends_ms``: where the first pieces ended; ``sent_ms`` of audio were sent, at ``speed``."""

    ends_ms: Sequence[float]
    sent_ms: float
    speed: float


def heard_until(
    spoken: Spoken, pieces: Sequence[Piece], sounded: Sounded, played_ms: float | None, language: str
) -> int:
    """So many characters of the text were heard. ``played_ms`` None: all that was sent."""
    heard_ms = sounded.sent_ms if played_ms is None else min(played_ms, sounded.sent_ms)
    begin_ms = 0.0
    for piece, end_ms in zip(pieces, sounded.ends_ms, strict=False):
        if heard_ms < end_ms:
            return _within(spoken, piece, (heard_ms - begin_ms) / (end_ms - begin_ms), language)
        begin_ms = end_ms
    running = pieces[len(sounded.ends_ms) :]
    if not running:
        return pieces[-1].end if sounded.ends_ms else 0
    expected_ms = usual_speech_s(running[0].text, language) * 1000 / sounded.speed
    length_ms = max(expected_ms, sounded.sent_ms - begin_ms)
    return _within(spoken, running[0], (heard_ms - begin_ms) / length_ms, language)


def _within(spoken: Spoken, piece: Piece, share: float, language: str) -> int:
    """The place in the text as received where so much of the piece was said."""
    first, end = (bisect_left(spoken.starts, place) for place in (piece.start, piece.end))
    left_s = share * usual_speech_s(piece.text, language)
    said = first
    for word in _WORD.finditer(spoken.text, first, end):
        left_s -= usual_speech_s(word.group(), language)
        if left_s < -1e-9:
            break
        said = word.end()
    return spoken.starts[said] if said < end else piece.end
