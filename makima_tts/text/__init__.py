"""Pure text: cleaning, the prefix-stable segmenter, and how long speech takes.

In: text as received, in any split. Out: cleaned pieces with their positions in the text as received; seconds.
Does not know: time, engines, sessions.
"""

from makima_tts.text.cleaning import NOTHING_SPOKEN, TextCleaning, clean, is_speakable, why_silent
from makima_tts.text.durations import longest_speech_s, usual_speech_s
from makima_tts.text.segmenter import Piece, Segmenter, pieces_of

__all__ = [
    "NOTHING_SPOKEN",
    "Piece",
    "Segmenter",
    "TextCleaning",
    "clean",
    "is_speakable",
    "longest_speech_s",
    "pieces_of",
    "usual_speech_s",
    "why_silent",
]
