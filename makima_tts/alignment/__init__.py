"""Where the words of a known English text are in its speech: forced alignment, in a process of its own.

In: the words of a piece, and its audio, whole or so far. Out: begin and end of its words. Does not know:
engines, clients, when a word must be told. Needs the extra ``timings`` (PocketSphinx and its acoustic model).
"""

from makima_tts.alignment.pieces import PieceAlignment as PieceAlignment
from makima_tts.alignment.process import Aligner as Aligner
