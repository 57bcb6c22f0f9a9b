"""The utterances that an engine on the event loop has open: one task each.

In: a coroutine per utterance that takes pieces and puts chunks. Out: streams; cancels that end the task at
once, wherever it waits; failures turned into the stream's error. Does not know: how sound is made.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from makima_tts.errors import Cancelled, SynthesisError, TtsError, TtsUnavailable
from makima_tts.speech import (
    EngineFacts,
    EngineHealth,
    FinishReason,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    check_request,
)

Speak = Callable[[SpeechSink], Awaitable[FinishReason]]

_NOT_STARTED = "The engine has not been started."
_CLOSED = "The engine was closed."

_log = structlog.get_logger(__name__)


class OpenUtterances:
    """Admits, runs and ends utterances for one engine. Event loop only."""

    def __init__(self, facts: EngineFacts, *, buffer_samples: int) -> None:
        self._facts = facts
        self._buffer_samples = buffer_samples
        self._tasks: dict[SpeechSink, asyncio.Task[None]] = {}
        self._refusal: str | None = _NOT_STARTED

    def admit(self) -> None:
        """From now on utterances may be opened. Raises TtsUnavailable when closed meanwhile."""
        if self._refusal == _CLOSED:
            raise TtsUnavailable(_CLOSED)
        self._refusal = None

    def open(self, request: UtteranceRequest, speak: Speak) -> SpeechStream:
        """Run ``speak`` in a task of its own; what it returns is why the utterance ended.

        Raises TtsUnavailable, InvalidText or VoiceNotFound as ``SpeechEngine.open`` promises.
        """
        self._check(request)
        stream, sink = SpeechStream.create(
            buffer_samples=self._buffer_samples, wake_engine=lambda: self._heed_cancel(sink)
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

    def _heed_cancel(self, sink: SpeechSink) -> None:
        if sink.cancelled and (task := self._tasks.pop(sink, None)) is not None:
            task.cancel()

    async def _run(self, speak: Speak, sink: SpeechSink) -> None:
        try:
            sink.end(await speak(sink))
        except TtsError as error:
            sink.fail(error)
        except Exception as error:
            # The type alone: the words of an exception may quote the text that it stumbled over.
            _log.error("synthesis_failed", engine=self._facts.name, error=type(error).__name__)
            sink.fail(SynthesisError("The engine failed in the middle of this utterance."))
        finally:
            self._tasks.pop(sink, None)
