"""The embedded engine: hibari-tts, a small English model that needs no GPU and no download.

In: pieces of English text. Out: float32 sound at 24 kHz. Does not know: voices other than its own, other
languages (their words are left out, with a warning). It stands in until Qwen3-TTS is installed, and says so.

A second of sound takes some 10 ms.
"""

import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from makima_tts.engines.english import in_english
from makima_tts.engines.pieces import PieceEngine, PieceSound
from makima_tts.errors import TtsUnavailable
from makima_tts.speech import EngineFacts, ProgressReport, UtteranceRequest
from makima_tts.text import is_speakable

SAMPLE_RATE_HZ = 24_000
BUFFER_SAMPLES = 4 * SAMPLE_RATE_HZ
# It comes with the package; all others would be downloaded.
VOICE = "heart"

# The model puts a third of a second of silence before a piece and half of one after it, whatever the piece.
_AUDIBLE = 0.002
_LEAD_SAMPLES = 960
_CLAUSE_PAUSE_SAMPLES = 2_400
_SENTENCE_PAUSE_SAMPLES = 8_400
_SENTENCE_MARKS = frozenset(".!?…")
_CLOSING_MARKS = "\"')]}”»\N{RIGHT SINGLE QUOTATION MARK}"

_WARM_UP = "This is how I sound."


class PreviewEngine(PieceEngine):
    """A SpeechEngine with one English voice and no cloning."""

    def __init__(self) -> None:
        facts = EngineFacts(
            name="preview",
            model="hibari-tts",
            fingerprint=f"hibari-tts-{VOICE}",
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=("English",),
            cloning=False,
            note="A stand-in for Qwen3-TTS: one voice, English only, no voice cloning.",
        )
        super().__init__(facts, buffer_samples=BUFFER_SAMPLES)
        self._model: Any = None  # used on the worker only

    async def start(self, report: ProgressReport) -> None:
        report("loading the voice", 0.0)
        try:
            await self._in_worker(self._load)
            report("warming up", 0.5)
            await self._in_worker(partial(self._sound, _WARM_UP))
        except ImportError:
            raise TtsUnavailable(
                "The preview engine is not installed: pip install 'makima-tts[preview]'"
            ) from None
        except Exception as error:
            raise TtsUnavailable(f"The preview engine cannot be loaded: {type(error).__name__}.") from error
        self._admit()
        report("ready", 1.0)

    async def _synthesize(self, request: UtteranceRequest, piece: str, index: int) -> PieceSound:
        seed = None if request.seed is None else [request.seed, index]
        return await self._in_worker(partial(self._sound, piece, seed))

    def _load(self) -> None:
        """Raises ImportError when the package is not installed."""
        from hibari import Hibari  # noqa: PLC0415 - only this engine needs its packages

        self._model = Hibari(voice=VOICE)

    def _sound(self, piece: str, seed: list[int] | None = None) -> PieceSound:
        """The same ``seed`` gives the same samples."""
        english, began_s = in_english(piece), time.perf_counter()
        # The model makes a sound for marks alone.
        text = english.text if is_speakable(english.text) else ""
        pcm = _with_pauses_of_speech(self._model(text, seed=seed), text)
        return PieceSound(pcm, time.perf_counter() - began_s, warning=_warning(english.scripts))


def _with_pauses_of_speech(pcm: npt.NDArray[np.float32], text: str) -> npt.NDArray[np.float32]:
    """Sound starts at once, and pauses as long as the text asks for."""
    audible = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
    if not audible.size:
        return pcm[:0]
    ends_sentence = text.rstrip().rstrip(_CLOSING_MARKS)[-1:] in _SENTENCE_MARKS
    pause_samples = _SENTENCE_PAUSE_SAMPLES if ends_sentence else _CLAUSE_PAUSE_SAMPLES
    speech = pcm[max(0, audible[0] - _LEAD_SAMPLES) : audible[-1] + pause_samples]
    return np.clip(speech, -1.0, 1.0)


def _warning(scripts: frozenset[str]) -> str | None:
    """Quotes no text."""
    names = " and ".join(sorted(scripts))
    return f"The preview engine speaks English only: it left out words in {names} letters." if names else None
