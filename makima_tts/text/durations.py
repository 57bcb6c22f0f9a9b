"""How long a text usually takes to speak, a bound that no speaker needs, and how much of it was played.

In: a cleaned text and its language; how much audio was played. Out: seconds; a position. Does not know:
engines, frames, messages.

Durations count syllables. The bound is generous: it must not truncate speech, and must end a voice that does
not find its end. Rates are syllables per second of Pellegrino, Coupé and Marsico, "A cross-language
perspective on speech information rate" (Language 87, 2011); a language that they did not measure gets the
slowest rate.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

from makima_tts.text.segmenter import Piece
from makima_tts.text.words import SpokenText

_SYLLABLES_PER_S = {
    "English": 6.19,
    "French": 7.18,
    "German": 5.97,
    "Italian": 6.99,
    "Japanese": 7.84,
    "Chinese": 5.18,
    "Spanish": 7.82,
}
_SLOWEST = min(_SYLLABLES_PER_S.values())
# Slow readers speak half as fast as the measured ones.
_MARGIN = 2.0
# A breath before, and the end of a sentence after.
_FIXED_S = 2.0

_LETTER_SYLLABLES = 0.4  # English has the longest spellings per syllable of the alphabets, some 2.9 letters
_CAPITAL_SYLLABLES = 1.0  # an acronym is spelled out
# An ideograph is a syllable of Chinese, one to three morae of Japanese; kana and Hangul are one each.
_IDEOGRAPH_SYLLABLES = {"Japanese": 2.0}
# By Unicode category: digits ("seventy-"), symbols ("per cent"), and a pause of half a second.
_OTHER_SYLLABLES = {"N": 3.0, "S": 4.0, "P": 3.0}

# Scripts without spaces are counted by the character.
_WORD = re.compile("[\u2e80-\U0003ffff]|[^\\s\u2e80-\U0003ffff]+")


def longest_speech_s(text: str, language: str) -> float:
    """Seconds. ``language``: an English name; any other, Auto too, counts as the slowest."""
    return _FIXED_S + _MARGIN * usual_speech_s(text, language)


def usual_speech_s(text: str, language: str) -> float:
    """Expected seconds. ``language`` as above."""
    syllables = sum(_syllables(char, language) for char in text)
    return syllables / _SYLLABLES_PER_S.get(language, _SLOWEST)


def _syllables(char: str, language: str) -> float:
    category = unicodedata.category(char)
    if category == "Lo":
        return _IDEOGRAPH_SYLLABLES.get(language, 1.0)
    if category[0] == "L":
        return _CAPITAL_SYLLABLES if category == "Lu" else _LETTER_SYLLABLES
    return _OTHER_SYLLABLES.get(category[0], 0.0)


def played_position(
    spoken: SpokenText,
    pieces: Sequence[Piece],
    piece_ends_ms: Sequence[float],
    *,
    played_ms: float | None,
    sent_ms: float,
    speed: float,
    language: str,
) -> int:
    """About how many characters of the received text were played. ``played_ms`` None: all sent audio.

    ``piece_ends_ms``: where the first pieces ended in the audio. The words of a piece are spread over it as
    ``usual_speech_s`` says; a piece without an end is expected to last as long as that.
    """
    played_ms = sent_ms if played_ms is None else min(played_ms, sent_ms)
    begin_ms = 0.0
    for piece, end_ms in zip(pieces, piece_ends_ms, strict=False):
        if played_ms < end_ms:
            return _within(spoken, piece, (played_ms - begin_ms) / (end_ms - begin_ms), language)
        begin_ms = end_ms
    unfinished = pieces[len(piece_ends_ms) :]
    if not unfinished:
        return pieces[-1].end if piece_ends_ms else 0
    expected_ms = usual_speech_s(unfinished[0].text, language) * 1000 / speed
    length_ms = max(expected_ms, sent_ms - begin_ms)
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
