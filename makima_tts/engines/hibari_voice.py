"""The preview engine's model, on its worker thread.

In: a piece of English text. Out: its sound, without the model's own silences. Does not know: the event
loop, chunks, utterances.
"""

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from makima_tts.engines.english import readable
from makima_tts.engines.whole_pieces import Spoken

SAMPLE_RATE_HZ = 24_000
# It comes with the package; all others would be downloaded.
VOICE = "heart"

# The model puts a third of a second of silence before a piece and half of one after it, whatever the piece.
_AUDIBLE = 0.002
_LEAD_SAMPLES = 960
_CLAUSE_PAUSE_SAMPLES = 2_400
_SENTENCE_PAUSE_SAMPLES = 8_400
_SENTENCE_MARKS = frozenset(".!?…")
_CLOSING_MARKS = "\"')]}”»\N{RIGHT SINGLE QUOTATION MARK}"


class HibariVoice:
    """One voice. Loading and speaking block; both belong on a worker."""

    def __init__(self) -> None:
        self._model: Any = None

    def load(self) -> None:
        """Raises ImportError when the package is not installed."""
        from hibari import Hibari  # noqa: PLC0415 - only who wants this engine needs its packages

        self._model = Hibari(voice=VOICE)

    def say(self, piece: str, seed: list[int] | None = None) -> Spoken:
        """The same ``seed`` gives the same samples. Raises InvalidText for what the voice cannot read."""
        text = readable(piece)
        began_s = time.perf_counter()
        pcm = _with_pauses_of_speech(self._model(text, seed=seed), text)
        return Spoken(pcm, time.perf_counter() - began_s)


def _with_pauses_of_speech(pcm: npt.NDArray[np.float32], text: str) -> npt.NDArray[np.float32]:
    """Sound starts at once, and pauses as long as the text asks for."""
    audible = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
    if not audible.size:
        return pcm[:0]
    ends_sentence = text.rstrip().rstrip(_CLOSING_MARKS)[-1:] in _SENTENCE_MARKS
    pause_samples = _SENTENCE_PAUSE_SAMPLES if ends_sentence else _CLAUSE_PAUSE_SAMPLES
    speech = pcm[max(0, audible[0] - _LEAD_SAMPLES) : audible[-1] + pause_samples]
    return np.clip(speech, -1.0, 1.0)
