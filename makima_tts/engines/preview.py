"""The embedded engine: hibari-tts, a small English model that needs no GPU and no download.

In: pieces of English text. Out: float32 sound at 24 kHz. Does not know: voices other than its own, other
languages. It stands in until Qwen3-TTS is installed, and says so.

All synthesis runs on one worker thread, a piece at a time (some 10 ms for a second of sound). Waiting for
text and for credit happens on the event loop: a client that does not listen never holds the worker.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from makima_tts.engines.hibari_voice import SAMPLE_RATE_HZ, VOICE, HibariVoice
from makima_tts.engines.open_utterances import OpenUtterances
from makima_tts.engines.whole_pieces import chunk_sizes, deliver
from makima_tts.errors import TtsUnavailable, VoiceNotFound
from makima_tts.speech import (
    EngineFacts,
    EngineHealth,
    FinishReason,
    LoadProgress,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)

BUFFER_SAMPLES = 4 * SAMPLE_RATE_HZ
LARGEST_CHUNK_SAMPLES = SAMPLE_RATE_HZ

_WARM_UP = "This is how I sound."

_Result = TypeVar("_Result")


class PreviewEngine:
    """A SpeechEngine with one English voice and no cloning."""

    def __init__(self) -> None:
        self._facts = EngineFacts(
            name="preview",
            model="hibari-tts",
            fingerprint=f"hibari-tts-{VOICE}",
            sample_rate_hz=SAMPLE_RATE_HZ,
            languages=("English",),
            cloning=False,
            text_streaming=True,
            note="A stand-in for Qwen3-TTS: one voice, English only, no voice cloning.",
        )
        self._utterances = OpenUtterances(self._facts, buffer_samples=BUFFER_SAMPLES)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="preview")
        self._voice = HibariVoice()

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    async def start(self, report: ProgressReport) -> None:
        report(LoadProgress("loading the voice", 0.0))
        try:
            await self._in_worker(self._voice.load)
            report(LoadProgress("warming up", 0.5))
            await self._in_worker(partial(self._voice.say, _WARM_UP))
        except ImportError:
            raise TtsUnavailable(
                "The preview engine is not installed: pip install 'makima-tts[preview]'"
            ) from None
        except Exception as error:
            raise TtsUnavailable(f"The preview engine cannot be loaded: {type(error).__name__}.") from error
        self._utterances.admit()
        report(LoadProgress("ready", 1.0))

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        raise VoiceNotFound("The preview engine cannot clone voices; Qwen3-TTS can.")

    def open(self, request: UtteranceRequest) -> SpeechStream:
        return self._utterances.open(request, partial(self._speak, seed=request.seed))

    def health(self) -> EngineHealth:
        return self._utterances.health()

    async def close(self) -> None:
        await self._utterances.close()
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    async def _in_worker(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _speak(self, sink: SpeechSink, seed: int | None) -> FinishReason:
        sizes = chunk_sizes(LARGEST_CHUNK_SAMPLES)
        index = 0
        while (piece := await sink.next_piece()) is not None and await sink.credit():
            piece_seed = None if seed is None else [seed, index]
            spoken = await self._in_worker(partial(self._voice.say, piece, piece_seed))
            await deliver(sink, spoken, index, sizes)
            index += 1
        return "stop"
