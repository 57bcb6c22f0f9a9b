"""Pure text: cleaning, the prefix-stable segmenter, and how long speech takes.

In: text as received, in any split. Out: cleaned pieces with their positions in the text as received; seconds.
Does not know: time, engines, sessions.
"""

from makima_tts.text.cleaning import (
    NOTHING_SPOKEN as NOTHING_SPOKEN,
    TextCleaning as TextCleaning,
    clean as clean,
    exceeds as exceeds,
    is_speakable as is_speakable,
    nothing_to_say as nothing_to_say,
)
from makima_tts.text.durations import longest_speech_s as longest_speech_s, usual_speech_s as usual_speech_s
from makima_tts.text.segmenter import (
    Piece as Piece,
    Segmenter as Segmenter,
    pieces_of as pieces_of,
    pieces_within as pieces_within,
)
