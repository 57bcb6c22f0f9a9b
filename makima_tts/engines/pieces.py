"""What engines that speak whole pieces share: a task for each open utterance, and one worker thread.

In: a piece's sound, which a subclass synthesizes. Out: streams, in chunks; a cancel ends the task at once,
wherever it waits; an error becomes the stream's. Does not know: how sound is synthesized.

Waiting for text and for credit happens on the event loop: a client that takes no audio never blocks the
worker.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from makima_tts.errors import Cancelled, InvalidText, SynthesisError, TtsError, TtsUnavailable, VoiceNotFound
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    EngineHealth,
    FinishReason,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
    check_request,
)

# The first chunk is small so that it leaves soon.
FIRST_CHUNK_SAMPLES = 1920
LARGEST_CHUNK_SAMPLES = 24_000

_CLOSED = "The engine was closed."

_Result = TypeVar("_Result")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PieceSound:
    """``pcm``: float32 [samples] in -1…1, empty for a piece without sound.

    ``warning`` says, for people and without a word of the text, what the engine left out.
    """

    pcm: npt.NDArray[np.float32] = field(repr=False)
    synthesis_s: float
    truncated: bool = False
    warning: str | None = None


class PieceEngine:
    """Most of a SpeechEngine: a subclass loads in ``start``, and synthesizes a piece."""

    def __init__(self, facts: EngineFacts, *, buffer_samples: int) -> None:
        self.facts = facts
        self._buffer_samples = buffer_samples
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=facts.name)
        self._tasks: dict[SpeechSink, asyncio.Task[None]] = {}
        self._refusal: str | None = "The engine has not been started."

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        raise VoiceNotFound("This engine cannot clone voices; Qwen3-TTS can.")

    def open(self, request: UtteranceRequest) -> SpeechStream:
        self._check_running()
        check_request(self.facts, request)
        stream, sink = SpeechStream.create(
            buffer_samples=self._buffer_samples, wake_engine=lambda: self._on_wake(sink)
        )
        self._tasks[sink] = asyncio.create_task(self._run(request, sink))
        return stream

    def health(self) -> EngineHealth:
        return EngineHealth(alive=self._refusal is None, active=len(self._tasks), reason=self._refusal)

    async def close(self) -> None:
        self._refusal = _CLOSED
        tasks, self._tasks = self._tasks, {}
        for sink, task in tasks.items():
            task.cancel()
            sink.fail(Cancelled(_CLOSED))
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    def _admit(self) -> None:
        """From now on utterances may be opened. Raises TtsUnavailable if it was closed meanwhile."""
        if self._refusal == _CLOSED:
            raise TtsUnavailable(_CLOSED)
        self._refusal = None

    def _check_running(self) -> None:
        if self._refusal is not None:
            raise TtsUnavailable(self._refusal)

    async def _in_worker(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _on_wake(self, sink: SpeechSink) -> None:
        if sink.cancelled and (task := self._tasks.pop(sink, None)) is not None:
            task.cancel()

    async def _run(self, request: UtteranceRequest, sink: SpeechSink) -> None:
        try:
            sink.end(await self._speak(request, sink))
        except TtsError as error:
            sink.fail(error)
        except Exception as error:
            # Only the type: the message of an exception may quote the text.
            _log.error("synthesis_failed", engine=self.facts.name, error=type(error).__name__)
            sink.fail(SynthesisError("The engine failed in the middle of this utterance."))
        finally:
            self._tasks.pop(sink, None)

    async def _speak(self, request: UtteranceRequest, sink: SpeechSink) -> FinishReason:
        """A truncated piece ends no other: the rest of the text is spoken.

        Raises InvalidText when all that could be heard was left out.
        """
        sizes = _chunk_sizes()
        index = 0
        reason: FinishReason = "stop"
        while (piece := await sink.next_piece()) is not None and await sink.credit():
            sound = await self._synthesize(request, piece, index)
            await _put_in_chunks(sink, sound, index, sizes)
            reason = "length" if sound.truncated else reason
            sink.warning = sink.warning or sound.warning
            index += 1
        if sink.warning and not sink.put_samples and not sink.cancelled:
            raise InvalidText(sink.warning)
        return reason

    async def _synthesize(self, request: UtteranceRequest, piece: str, index: int) -> PieceSound:
        """Each engine overrides it. Raises TtsError; other exceptions become SynthesisError."""
        raise NotImplementedError


def _chunk_sizes() -> Iterator[int]:
    """Samples of an utterance's first chunk, its second, and so on without end: each twice the one before."""
    size_samples = FIRST_CHUNK_SAMPLES
    while True:
        yield size_samples
        size_samples = min(2 * size_samples, LARGEST_CHUNK_SAMPLES)


async def _put_in_chunks(sink: SpeechSink, sound: PieceSound, index: int, sizes: Iterator[int]) -> None:
    """As credit allows; the synthesis time is spread evenly. A piece that was left out ends without sound."""
    total = sound.pcm.size
    start = 0
    if sound.warning and not total:
        sink.put(AudioChunk(sound.pcm, index, ends_piece=True))
    while start < total and await sink.credit():
        pcm = sound.pcm[start : start + next(sizes)]
        start += pcm.size
        synthesis_s = sound.synthesis_s * pcm.size / total
        sink.put(AudioChunk(pcm, index, ends_piece=start == total, synthesis_s=synthesis_s))
