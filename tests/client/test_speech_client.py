"""The client, in exact conversations with a fake service."""

import asyncio
import base64
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from makima_tts.client import (
    SpeechClient,
    UtteranceCancelled,
)
from makima_tts.protocol import (
    SUBPROTOCOL,
    AudioChunkMessage,
    Cancel,
    Flush,
    Loading,
    Sentence,
    Speak,
    Start,
    Started,
)
from tests.client.fake_service import (
    MAX_TEXT_CHARS,
    READY,
    STARTED,
    FakeService,
    complete,
    failed,
    heard_of,
    speaking,
)


async def test_a_text_is_spoken() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.", voice="makima", priority="high", seed=7)
        await service.heard(Start)
        asked = await service.heard(Speak)
        assert (asked.text, asked.final, asked.voice, asked.priority, asked.seed) == (
            "Hello.",
            True,
            "makima",
            "high",
            7,
        )
        await service.say(speaking("u1"), b"\x01\x00", b"\x02\x00", complete("u1"))
        assert await heard_of(speech) == [b"\x01\x00", b"\x02\x00"]
        assert speech.complete == complete("u1")
        assert speech.ttfa_s is not None
        assert speech.ttfa_s > 0


async def test_the_session_is_the_one_asked_for() -> None:
    asked = Start(voice="makima", sample_rate=48000, encoding="pcm32f", language="de")
    async with FakeService() as service, SpeechClient.connect(service.url, asked) as client:
        assert await service.heard(Start) == asked
        assert service.subprotocol == SUBPROTOCOL
        assert (client.ready, client.started) == (READY, STARTED)


async def test_loading_is_reported_until_the_service_is_ready() -> None:
    stages = [Loading(stage="weights", progress=0.2), Loading(stage="warm-up", progress=0.9)]
    told: list[Loading] = []
    async with (
        FakeService([*stages, READY, STARTED]) as service,
        SpeechClient.connect(service.url, on_loading=told.append),
    ):
        assert told == stages


async def test_audio_goes_to_the_utterance_that_is_announced() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        low, high = client.speak("One.", priority="low"), client.speak("Two.", priority="high")
        await service.say(speaking("u2"), b"22", complete("u2"), speaking("u1"), b"11", complete("u1"))
        assert (await heard_of(low), await heard_of(high)) == ([b"11"], [b"22"])


async def test_audio_may_come_as_json() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, Start(transport="json")) as client:
        speech = client.speak("Hello.")
        await service.say(json_chunk(b"ab", final=False), json_chunk(b"", final=True), complete("u1"))
        assert await heard_of(speech) == [b"ab"]


def json_chunk(pcm: bytes, *, final: bool) -> AudioChunkMessage:
    return AudioChunkMessage(
        utterance_id="u1",
        data=base64.b64encode(pcm).decode(),
        sequence_number=1,
        is_final=final,
        timestamp_ms=0,
        timestamp=0.0,
    )


async def test_sentences_are_kept_with_their_utterance() -> None:
    said = Sentence(utterance_id="u1", index=0, text="Hello.", start_ms=0, end_ms=80)
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(speaking("u1"), b"11", said, complete("u1"))
        await heard_of(speech)
        assert speech.sentences == [said]


async def test_messages_of_a_later_version_are_ignored() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say('{"type":"applause","level":11}', complete("u1"))
        assert await heard_of(speech) == []


async def test_text_that_is_still_being_written_goes_out_as_it_comes() -> None:
    continue_ = asyncio.Event()

    async def writer() -> AsyncIterator[str]:
        yield "Good d"
        yield ""
        await continue_.wait()
        yield "ay."

    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak(writer(), utterance_id="live")
        await service.heard(Start)
        first = await service.heard(Speak)
        await service.say(speaking("live"), b"11")
        assert (await anext(speech)).pcm == b"11"
        continue_.set()
        rest = [await service.heard(Speak) for _ in range(2)]
        assert [(m.text, m.final) for m in (first, *rest)] == [("Good d", False), ("ay.", False), ("", True)]
        assert {m.utterance_id for m in (first, *rest)} == {"live"}


async def test_an_iterable_that_blocks_is_read_beside_the_connection() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        client.speak(iter(["One. ", "Two."]))
        said = [await service.heard(Speak) for _ in range(3)]
        assert [(m.text, m.final) for m in said] == [("One. ", False), ("Two.", False), ("", True)]


@pytest.mark.parametrize("surplus", [0, 1, MAX_TEXT_CHARS, MAX_TEXT_CHARS + 1])
async def test_a_long_text_is_sent_in_parts_that_the_service_takes(surplus: int) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(MAX_TEXT_CHARS + surplus))
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        client.speak(text)
        said = [await service.heard(Speak)]
        while not said[-1].final:
            said.append(await service.heard(Speak))
        assert "".join(m.text for m in said) == text
        assert max(len(m.text) for m in said) <= MAX_TEXT_CHARS


async def test_held_text_can_be_flushed() -> None:
    async def writer() -> AsyncIterator[str]:
        yield "Well"
        client.flush("live")
        yield ", well."

    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        client.speak(writer(), utterance_id="live")
        assert (await service.heard(Speak)).text == "Well"
        assert (await service.heard(Flush)).utterance_id == "live"
        assert (await service.heard(Speak)).text == ", well."


async def test_a_writer_that_fails_takes_its_utterance_with_it_and_no_other() -> None:
    def writer() -> Iterator[str]:
        yield "Hello "
        raise RuntimeError("the writer broke")

    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        broken, whole = client.speak(writer()), client.speak("Fine.")
        with pytest.raises(RuntimeError, match="the writer broke"):
            await heard_of(broken)
        await service.heard(Start)
        said = [await service.heard(Speak) for _ in range(2)]
        assert {m.text for m in said} == {"Hello ", "Fine."}
        assert (await service.heard(Cancel)).utterance_id == "u1"
        await service.say(failed("CANCELLED", "u1"), speaking("u2"), b"22", complete("u2"))
        assert await heard_of(whole) == [b"22"]


async def test_an_iterable_that_fails_at_once_fails_its_utterance() -> None:
    def writer() -> Iterator[str]:
        raise RuntimeError("the writer broke")
        yield ""

    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        with pytest.raises(RuntimeError, match="the writer broke"):
            await heard_of(client.speak(writer()))


async def test_a_cancelled_utterance_drops_what_is_buffered_and_ends_typed() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        speech = client.speak("Hello.")
        await service.say(speaking("u1"), b"11", b"22")
        await anext(speech)
        await speech.cancel(played_ms=40)
        await service.heard(Speak)
        assert await service.heard(Cancel) == Cancel(utterance_id="u1", played_ms=40)
        await service.say(
            b"33", failed("CANCELLED", "u1").model_copy(update={"audio_ms": 80, "played_ms": 40})
        )
        with pytest.raises(UtteranceCancelled) as ended:
            await anext(speech)
        assert (ended.value.audio_ms, ended.value.played_ms) == (80, 40)


async def test_a_cancel_closes_the_text_generator_at_once() -> None:
    """A model that keeps generating costs money."""
    stopped = asyncio.Event()

    async def tokens() -> AsyncIterator[str]:
        try:
            while True:
                yield "word "
        finally:
            stopped.set()

    gc.disable()
    try:
        async with FakeService() as service, SpeechClient.connect(service.url) as client:
            await service.heard(Start)
            speech = client.speak(tokens())
            await service.heard(Speak)
            await speech.cancel()
            await service.say(failed("CANCELLED", "u1"))
            with pytest.raises(UtteranceCancelled):
                await heard_of(speech)
            async with asyncio.timeout(5):
                await stopped.wait()
    finally:
        gc.enable()


async def test_cancelling_twice_or_after_the_end_says_nothing_more() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        first = client.speak("One.")
        await service.heard(Speak)
        await first.cancel()
        await first.cancel()
        await service.heard(Cancel)
        done = client.speak("Two.")
        await service.heard(Speak)
        await service.say(complete("u2"))
        await heard_of(done)
        await done.cancel()
        client.flush("u2")
        client.speak("Three.")
        assert (await service.heard(Speak)).text == "Three."


async def test_an_utterance_that_is_cancelled_before_it_is_sent_stays_unsaid() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        speech = client.speak("Hello.")
        await speech.cancel()
        with pytest.raises(UtteranceCancelled):
            await heard_of(speech)
        client.speak("Something else.")
        assert (await service.heard(Speak)).text == "Something else."


async def test_everything_can_be_silenced_at_once() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        client.speak("One.")
        client.speak("Two.")
        for _ in range(2):
            await service.heard(Speak)
        await client.interrupt()
        assert {(await service.heard(Cancel)).utterance_id for _ in range(2)} == {"u1", "u2"}


async def test_an_id_names_one_utterance_at_a_time() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        client.speak("One.", utterance_id="mine")
        with pytest.raises(ValueError, match="in use"):
            client.speak("Two.", utterance_id="mine")


async def test_an_option_that_the_protocol_does_not_allow_is_refused_here() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        with pytest.raises(ValueError, match="language"):
            client.speak("Hello.", language="Klingon")


async def test_a_warning_about_the_voice_is_there_to_read() -> None:
    warned = Started(
        sample_rate=24000, encoding="pcm16", voice="narrator", language="English", warning="no clip"
    )
    async with FakeService([READY, warned]) as service, SpeechClient.connect(service.url) as client:
        assert client.started.warning == "no clip"
