"""Pure text: cleaning, and the prefix-stable segmenter that cuts a growing text into pieces.

In: text as received, in any split. Out: cleaned pieces with their offsets in the text as sent. Does not
know: time, engines, sessions.
"""

from makima_tts.text.cleaning import NOTHING_SPOKEN, SpokenText, TextCleaning, clean, is_speakable, why_silent
from makima_tts.text.durations import longest_speech_s, usual_speech_s
from makima_tts.text.segmenter import Piece, Segmenter, pieces_of, spoken_text

__all__ = [
    "NOTHING_SPOKEN",
    "Piece",
    "Segmenter",
    "SpokenText",
    "TextCleaning",
    "clean",
    "is_speakable",
    "longest_speech_s",
    "pieces_of",
    "spoken_text",
    "usual_speech_s",
    "why_silent",
]
