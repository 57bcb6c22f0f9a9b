"""For engines on the event loop: one task for each open utterance, and the sound of whole pieces in chunks.

In: a coroutine per utterance that takes pieces and puts chunks. Out: streams; a cancel ends the task at once,
wherever it waits; an error becomes the stream's. Does not know: how sound is synthesized.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import structlog

from makima_tts.errors import Cancelled, SynthesisError, TtsError, TtsUnavailable
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    EngineHealth,
    FinishReason,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    check_request,
)

Speak = Callable[[SpeechSink], Awaitable[FinishReason]]

# The first chunk is small so that it leaves soon.
FIRST_CHUNK_SAMPLES = 1920

_NOT_STARTED = "The engine has not been started."
_CLOSED = "The engine was closed."

_log = structlog.get_logger(__name__)


class UtteranceTasks:
    """Opens, runs and ends the utterances of one engine. Event loop only."""

    def __init__(self, facts: EngineFacts, *, buffer_samples: int) -> None:
        self._facts = facts
        self._buffer_samples = buffer_samples
        self._tasks: dict[SpeechSink, asyncio.Task[None]] = {}
        self._refusal: str | None = _NOT_STARTED

    def admit(self) -> None:
        """From now on utterances may be opened. Raises TtsUnavailable if it was closed meanwhile."""
        if self._refusal == _CLOSED:
            raise TtsUnavailable(_CLOSED)
        self._refusal = None

    def open(self, request: UtteranceRequest, speak: Speak) -> SpeechStream:
        """Run ``speak`` in a task of its own; what it returns is why the utterance ended.

        Raises TtsUnavailable, InvalidText or VoiceNotFound as ``SpeechEngine.open`` promises.
        """
        self._check(request)
        stream, sink = SpeechStream.create(
            buffer_samples=self._buffer_samples, wake_engine=lambda: self._on_wake(sink)
        )
        self._tasks[sink] = asyncio.create_task(self._run(speak, sink))
        return stream

    def health(self) -> EngineHealth:
        return EngineHealth(alive=self._refusal is None, active=len(self._tasks), reason=self._refusal)

    async def close(self) -> None:
        """End every open utterance with Cancelled and open none again. Idempotent."""
        self._refusal = _CLOSED
        tasks, self._tasks = self._tasks, {}
        for sink, task in tasks.items():
            task.cancel()
            sink.fail(Cancelled(_CLOSED))
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _check(self, request: UtteranceRequest) -> None:
        if self._refusal is not None:
            raise TtsUnavailable(self._refusal)
        check_request(self._facts, request)

    def _on_wake(self, sink: SpeechSink) -> None:
        if sink.cancelled and (task := self._tasks.pop(sink, None)) is not None:
            task.cancel()

    async def _run(self, speak: Speak, sink: SpeechSink) -> None:
        try:
            sink.end(await speak(sink))
        except TtsError as error:
            sink.fail(error)
        except Exception as error:
            # Only the type: the message of an exception may quote the text.
            _log.error("synthesis_failed", engine=self._facts.name, error=type(error).__name__)
            sink.fail(SynthesisError("The engine failed in the middle of this utterance."))
        finally:
            self._tasks.pop(sink, None)


@dataclass(frozen=True, slots=True)
class PieceSound:
    """``pcm``: float32 [samples] in -1…1, empty for a piece without sound."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    synthesis_s: float


def chunk_sizes(largest_samples: int) -> Iterator[int]:
    """Samples of an utterance's first chunk, its second, and so on without end: each twice the one before."""
    size_samples = FIRST_CHUNK_SAMPLES
    while True:
        yield size_samples
        size_samples = min(2 * size_samples, largest_samples)


async def put_in_chunks(sink: SpeechSink, sound: PieceSound, index: int, sizes: Iterator[int]) -> None:
    """As credit allows; the synthesis time is spread evenly."""
    total = sound.pcm.size
    start = 0
    while start < total and await sink.credit():
        pcm = sound.pcm[start : start + next(sizes)]
        start += pcm.size
        synthesis_s = sound.synthesis_s * pcm.size / total
        sink.put(AudioChunk(pcm, index, ends_piece=start == total, synthesis_s=synthesis_s))
