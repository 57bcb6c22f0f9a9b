"""What engines that speak whole pieces share."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from makima_tts.engines import ScriptedEngine
from makima_tts.errors import Cancelled, SynthesisError
from makima_tts.speech import FinishReason, SpeechSink, UtteranceRequest

REQUEST = UtteranceRequest("utterance")


class _Engine(ScriptedEngine):
    """Speaks as it is told."""

    def __init__(self, speak: Callable[[SpeechSink], Awaitable[FinishReason]]) -> None:
        super().__init__()
        self._given = speak
        self._admit()

    async def _speak(self, request: UtteranceRequest, sink: SpeechSink) -> FinishReason:
        return await self._given(sink)


async def test_a_bug_in_an_engine_fails_one_utterance_and_does_not_leak_its_text() -> None:
    async def stumble(sink: SpeechSink) -> FinishReason:
        raise KeyError(await sink.next_piece())

    with capture_logs() as logs:
        engine = _Engine(stumble)
        stream = engine.open(REQUEST)
        stream.feed("a secret")
        with pytest.raises(SynthesisError) as failure:
            await anext(stream)
    assert [(log["event"], log["error"]) for log in logs] == [("synthesis_failed", "KeyError")]
    assert "secret" not in f"{logs}{failure.value}"
    assert engine.health().active == 0


async def test_a_cancel_ends_the_task_wherever_it_waits() -> None:
    ended = asyncio.Event()

    async def wait_for_ever(_sink: SpeechSink) -> FinishReason:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "stop"

    stream = _Engine(wait_for_ever).open(REQUEST)
    await asyncio.sleep(0)
    stream.cancel()
    await asyncio.wait_for(ended.wait(), 1)


async def test_closing_waits_until_every_task_has_ended() -> None:
    tidied = []

    async def tidy_up(_sink: SpeechSink) -> FinishReason:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(True)
        return "stop"

    engine = _Engine(tidy_up)
    stream = engine.open(REQUEST)
    await asyncio.sleep(0)
    await engine.close()
    assert tidied == [True]
    with pytest.raises(Cancelled):
        await anext(stream)
