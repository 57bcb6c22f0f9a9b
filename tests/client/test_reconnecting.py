"""Reconnects after a lost connection or an unreachable service."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, strategies as st

from makima_tts.client import ConnectionLost, Reconnects, ServiceError, ServiceUnreachable, SpeechClient
from makima_tts.protocol import Cancel, Speak, Start, Stopped
from tests.client.fake_service import READY, STARTED, FakeService, complete, failed, heard_of, speaking

SOON = Reconnects(attempts=3, first_wait_s=0.001)


async def test_what_had_begun_fails_and_what_waited_is_sent_again_in_its_order() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        begun, second, third = (client.speak(text) for text in ("One.", "Two.", "Three."))
        await service.heard(Start)
        for _ in range(3):
            await service.heard(Speak)
        await service.say(speaking("u1"), b"11")
        assert (await anext(begun)).pcm == b"11"
        service.break_off()
        with pytest.raises(ConnectionLost):
            await heard_of(begun)
        await service.heard(Start)
        assert [(await service.heard(Speak)).text for _ in range(2)] == ["Two.", "Three."]
        await service.say(speaking("u2"), b"22", complete("u2"), speaking("u3"), b"33", complete("u3"))
        assert (await heard_of(second), await heard_of(third)) == ([b"22"], [b"33"])


async def test_a_text_that_is_still_being_written_is_sent_again_from_its_beginning() -> None:
    go_on = asyncio.Event()

    async def writer() -> AsyncIterator[str]:
        yield "Good "
        await go_on.wait()
        yield "day."

    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak(writer())
        for _ in range(2):
            await service.heard(Start)
            assert (await service.heard(Speak)).text == "Good "
            if not go_on.is_set():
                service.break_off()
                go_on.set()
        assert [((m := await service.heard(Speak)).text, m.final) for _ in range(2)] == [
            ("day.", False),
            ("", True),
        ]
        await service.say(speaking("u1"), b"11", complete("u1", len("Good day.")))
        assert await heard_of(speech) == [b"11"]


async def test_what_was_cancelled_is_not_sent_again() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        cancelled, kept = client.speak("One."), client.speak("Two.")
        await service.heard(Start)
        for _ in range(2):
            await service.heard(Speak)
        await cancelled.cancel()
        await service.heard(Cancel)
        service.break_off()
        await service.heard(Start)
        assert (await service.heard(Speak)).text == "Two."
        with pytest.raises(ConnectionLost):
            await heard_of(cancelled)
        await service.say(complete("u2"))
        assert await heard_of(kept) == []


async def test_a_service_that_hung_up_on_a_silent_client_is_called_when_there_is_something_to_say() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        await service.say(Stopped(reason="idle"))
        await service.hang_up(4408)
        assert service.connections == 1
        speech = client.speak("Hello.")
        await service.heard(Start)
        await service.heard(Speak)
        assert service.connections == 2
        await service.say(speaking("u1"), b"11", complete("u1"))
        assert await heard_of(speech) == [b"11"]


async def test_it_waits_as_long_as_the_service_asks() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=SOON) as client:
        await service.heard(Start)
        service.greeting = [failed("RATE_LIMITED", retry_after_ms=60)]
        service.break_off()
        speech = client.speak("Hello.")
        await service.heard(Start)
        refused_s = time.monotonic()
        service.greeting = [READY, STARTED]
        await service.heard(Start)
        assert time.monotonic() - refused_s > 0.05
        await service.heard(Speak)
        await service.say(complete("u1"))
        assert await heard_of(speech) == []


async def test_it_gives_up_and_tries_anew_for_the_next_text() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=SOON) as client:
        service.greeting = [failed("TTS_UNAVAILABLE")]
        service.break_off()
        for spoken in range(1, 3):
            with pytest.raises(ServiceError, match="TTS_UNAVAILABLE"):
                await heard_of(client.speak("Hello."))
            assert service.connections == 1 + spoken * SOON.attempts


async def test_a_service_that_no_longer_listens_raises_unreachable() -> None:
    async with FakeService() as service:
        async with SpeechClient.connect(service.url, reconnects=SOON) as client:
            await service.__aexit__()
            with pytest.raises(ServiceUnreachable):
                await heard_of(client.speak("Hello."))


async def test_what_cannot_pass_is_tried_once() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=SOON) as client:
        service.greeting = [failed("UNAUTHORIZED")]
        service.break_off()
        with pytest.raises(ServiceError, match="UNAUTHORIZED"):
            await heard_of(client.speak("Hello."))
        assert service.connections == 2


async def test_a_text_that_ends_every_connection_is_not_sent_for_ever() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=SOON) as client:
        speech = client.speak("Hello.")
        for _ in range(1 + SOON.attempts):
            await service.heard(Start)
            await service.heard(Speak)
            service.break_off()
        with pytest.raises(ConnectionLost):
            await heard_of(speech)


async def test_leaving_while_the_service_is_away_ends_the_waiting() -> None:
    async with FakeService() as service:
        async with SpeechClient.connect(service.url) as client:
            await service.heard(Start)
            service.greeting = []
            service.break_off()
            speech = client.speak("Hello.")
            await service.heard(Start)
        with pytest.raises(ConnectionLost):
            await heard_of(speech)


@given(attempts=st.integers(0, 40), first_s=st.floats(0.01, 2), chance=st.floats(0, 1, exclude_max=True))
def test_waits_grow_up_to_a_bound_and_chance_takes_half_at_most(
    attempts: int, first_s: float, chance: float
) -> None:
    reconnects = Reconnects(attempts, first_s, longest_wait_s=8.0)
    longest = list(reconnects.waits_s(lambda: 0.0))
    waits = list(reconnects.waits_s(lambda: chance))
    assert len(waits) == attempts
    assert longest == sorted(longest)
    assert all(whole / 2 <= wait <= whole <= 8.0 for wait, whole in zip(waits, longest, strict=True))
