"""The tasks behind an engine's open utterances."""

import asyncio

import pytest
from structlog.testing import capture_logs

from makima_tts.engines import ScriptedEngine
from makima_tts.engines.utterance_tasks import UtteranceTasks
from makima_tts.errors import Cancelled, SynthesisError
from makima_tts.speech import FinishReason, SpeechSink, UtteranceRequest

REQUEST = UtteranceRequest("utterance")


@pytest.fixture
def utterances() -> UtteranceTasks:
    utterances = UtteranceTasks(ScriptedEngine().facts, buffer_samples=100)
    utterances.admit()
    return utterances


async def test_a_bug_in_an_engine_fails_one_utterance_and_does_not_leak_its_text(
    utterances: UtteranceTasks,
) -> None:
    async def stumble(sink: SpeechSink) -> FinishReason:
        raise KeyError(await sink.next_piece())

    with capture_logs() as logs:
        stream = utterances.open(REQUEST, stumble)
        stream.feed("a secret")
        with pytest.raises(SynthesisError) as failure:
            await anext(stream)
    assert [(log["event"], log["error"]) for log in logs] == [("synthesis_failed", "KeyError")]
    assert "secret" not in f"{logs}{failure.value}"
    assert utterances.health().active == 0


async def test_a_cancel_ends_the_task_wherever_it_waits(utterances: UtteranceTasks) -> None:
    ended = asyncio.Event()

    async def wait_for_ever(_sink: SpeechSink) -> FinishReason:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "stop"

    stream = utterances.open(REQUEST, wait_for_ever)
    await asyncio.sleep(0)
    stream.cancel()
    await asyncio.wait_for(ended.wait(), 1)


async def test_closing_waits_until_every_task_has_ended(utterances: UtteranceTasks) -> None:
    tidied = []

    async def tidy_up(_sink: SpeechSink) -> FinishReason:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(True)
        return "stop"

    stream = utterances.open(REQUEST, tidy_up)
    await asyncio.sleep(0)
    await utterances.close()
    assert tidied == [True]
    with pytest.raises(Cancelled):
        await anext(stream)
