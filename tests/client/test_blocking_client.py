"""The client for code without an event loop, against a fake service on a loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from makima_tts.client import BlockingSpeechClient, ServiceUnreachable, UtteranceCancelled
from makima_tts.protocol import Cancel, Speak, Start, Stop
from tests.client.fake_service import FakeService, complete, failed, speaking

Conversation = Callable[[FakeService], Coroutine[Any, Any, None]]


@contextmanager
def service_that(converses: Conversation) -> Iterator[str]:
    """The address of a service in another thread that has this conversation."""
    listening: list[str] = []
    listens = threading.Event()

    async def serve() -> None:
        async with FakeService() as service:
            listening.append(service.url)
            listens.set()
            await converses(service)
            await service.hung_up()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    listens.wait()
    yield listening[0]
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_text_is_spoken_without_a_loop() -> None:
    async def converse(service: FakeService) -> None:
        await service.heard(Start)
        assert (await service.heard(Speak)).text == "Hello."
        await service.say(speaking("u1"), b"11", b"22", complete("u1"))

    with service_that(converse) as url, BlockingSpeechClient(url) as client:
        speech = client.speak("Hello.")
        assert [chunk.pcm for chunk in speech] == [b"11", b"22"]
        assert speech.speech.complete == complete("u1")


def test_an_utterance_is_cancelled_without_a_loop() -> None:
    async def converse(service: FakeService) -> None:
        await service.heard(Start)
        await service.heard(Speak)
        await service.say(speaking("u1"), b"11")
        await service.heard(Cancel)
        await service.say(failed("CANCELLED", "u1"))

    with service_that(converse) as url, BlockingSpeechClient(url) as client:
        speech = client.speak("Hello.")
        next(speech)
        speech.cancel(played_ms=10)
        with pytest.raises(UtteranceCancelled):
            next(speech)


def test_a_session_is_stopped_without_a_loop() -> None:
    async def converse(service: FakeService) -> None:
        await service.heard(Start)
        assert (await service.heard(Stop)).reason == "done"
        await service.hang_up()

    with service_that(converse) as url, BlockingSpeechClient(url) as client:
        client.stop("done")


def test_a_failed_connection_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(ServiceUnreachable), BlockingSpeechClient("ws://127.0.0.1:9/"):
        pytest.fail("there is no session")
    assert threading.active_count() == before


def test_an_interrupt_while_listening_hangs_up() -> None:
    async def converse(service: FakeService) -> None:
        await service.heard(Start)
        await service.heard(Speak)

    def listen(url: str) -> None:
        with BlockingSpeechClient(url) as client:
            client.speak("Hello.")
            raise KeyboardInterrupt

    with service_that(converse) as url, pytest.raises(KeyboardInterrupt):
        listen(url)
