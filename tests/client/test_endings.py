"""The ends of a session: by errors, early, and regular ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from makima_tts.client import (
    ClientError,
    ConnectionLost,
    Reconnects,
    ServiceError,
    ServiceUnreachable,
    SpeechClient,
    UtteranceCancelled,
    connection,
)
from makima_tts.client.speech import MAX_BUFFERED_BYTES
from makima_tts.protocol import SUBPROTOCOL, Speak, Start, Stop, Stopped, serialize
from tests.client.fake_service import FakeService, complete, failed, heard_of, speaking

NEVER = Reconnects(attempts=0)


async def test_a_refused_utterance_raises_the_services_error() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(failed("RATE_LIMITED", "u1", retry_after_ms=1500))
        with pytest.raises(ServiceError, match="What to do") as refused:
            await heard_of(speech)
        assert (refused.value.code, refused.value.recoverable, refused.value.retry_after_s) == (
            "RATE_LIMITED",
            True,
            1.5,
        )


async def test_an_error_before_ready_is_raised_even_if_the_service_closed_before_start_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.send(serialize(failed("TTS_UNAVAILABLE")))
        await socket.close(1011)

    async def open_and_wait_for_the_close(url: str, **options: Any) -> ClientConnection:
        socket = await connect(url, **options)
        await socket.wait_closed()
        return socket

    monkeypatch.setattr(connection, "open_socket", open_and_wait_for_the_close)
    async with serve(refuse, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServiceError, match="What to do") as refused:
            async with SpeechClient.connect(f"ws://127.0.0.1:{port}"):
                pass
    assert refused.value.code == "TTS_UNAVAILABLE"


async def test_audio_that_came_before_a_failure_is_handed_out_first() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(speaking("u1"), b"11", failed("SYNTHESIS_ERROR", "u1"))
        assert (await anext(speech)).pcm == b"11"
        with pytest.raises(ServiceError, match="SYNTHESIS_ERROR"):
            await anext(speech)


async def test_a_service_that_hangs_up_ends_every_utterance() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=NEVER) as client:
        speeches = [client.speak("One."), client.speak("Two.")]
        await service.hang_up(1001, "draining")
        for speech in speeches:
            with pytest.raises(ConnectionLost, match="draining") as lost:
                await heard_of(speech)
            assert lost.value.close_code == 1001
        with pytest.raises(ConnectionLost):
            await heard_of(client.speak("Three."))


async def test_a_connection_that_breaks_ends_every_utterance() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=NEVER) as client:
        speech = client.speak("Hello.")
        service.break_off()
        with pytest.raises(ConnectionLost) as lost:
            await heard_of(speech)
        assert lost.value.close_code is None


async def test_an_error_of_the_session_says_why_the_connection_ended() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(failed("UNAUTHORIZED"))
        await service.hang_up(4401)
        with pytest.raises(ServiceError, match="UNAUTHORIZED"):
            await heard_of(speech)


async def test_an_error_instead_of_ready_is_raised() -> None:
    async with FakeService([failed("TTS_UNAVAILABLE")]) as service:
        with pytest.raises(ServiceError, match="TTS_UNAVAILABLE"):
            async with SpeechClient.connect(service.url):
                pytest.fail("there is no session")


async def test_a_service_that_is_never_ready_is_given_up() -> None:
    async with FakeService([]) as service:
        with pytest.raises(TimeoutError):
            async with SpeechClient.connect(service.url, ready_timeout_s=0.05):
                pytest.fail("there is no session")
        assert await service.hung_up() == 1000


async def test_a_service_that_closes_before_ready_is_a_lost_connection() -> None:
    async with FakeService([]) as service:
        connecting = asyncio.create_task(SpeechClient.connect(service.url).__aenter__())
        await service.hang_up(1013, "no capacity")
        with pytest.raises(ConnectionLost, match="no capacity"):
            await connecting


async def test_a_service_that_does_not_listen_raises_unreachable() -> None:
    async with FakeService() as service:
        url = service.url
    with pytest.raises(ServiceUnreachable, match="No service at"):
        async with SpeechClient.connect(url):
            pytest.fail("there is no session")


@pytest.mark.parametrize("nonsense", ["{", "[]", "{}", '{"type":"complete"}', '{"type":"pong","id":[5]}'])
async def test_a_service_that_talks_nonsense_is_hung_up_on(nonsense: str) -> None:
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=NEVER) as client:
        speech = client.speak("Hello.")
        await service.say(nonsense)
        with pytest.raises(ConnectionLost, match="does not allow"):
            await heard_of(speech)


async def test_audio_that_is_none_is_hung_up_on() -> None:
    chunk = '{"type":"audioChunk","utteranceId":"u1","data":"!","sequenceNumber":1,"isFinal":false,'
    async with FakeService() as service, SpeechClient.connect(service.url, reconnects=NEVER) as client:
        speech = client.speak("Hello.")
        await service.say(chunk + '"timestampMs":0,"timestamp":0.0}')
        with pytest.raises(ConnectionLost, match="not base64"):
            await heard_of(speech)


async def test_nonsense_instead_of_a_greeting_is_typed() -> None:
    async with FakeService([]) as service:
        connecting = asyncio.create_task(SpeechClient.connect(service.url).__aenter__())
        await service.say("{")
        with pytest.raises(ConnectionLost, match="does not allow"):
            await connecting


async def test_a_listener_that_falls_behind_stops_the_reader() -> None:
    frame = bytes(MAX_BUFFERED_BYTES // 4)
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        saying = asyncio.create_task(service.say(speaking("u1"), *[frame] * 40, complete("u1")))
        buffered, taken = 0, 0
        async for chunk in speech:
            buffered = max(buffered, speech.buffered_bytes)
            taken += len(chunk.pcm)
        await saying
        assert taken == 40 * len(frame)
        assert buffered <= MAX_BUFFERED_BYTES + len(frame)


async def test_leaving_the_session_hangs_up_and_ends_its_utterances() -> None:
    async with FakeService() as service:
        async with SpeechClient.connect(service.url) as client:
            speech = client.speak(endless())
        assert await service.hung_up() == 1000
        with pytest.raises(ConnectionLost):
            await heard_of(speech)


async def endless() -> AsyncIterator[str]:
    yield "Hello "
    await asyncio.Event().wait()


async def test_an_interrupt_hangs_up_and_stays_an_interrupt() -> None:
    async with FakeService() as service:
        speaking_now = asyncio.Event()

        async def listen() -> None:
            async with SpeechClient.connect(service.url) as client:
                speech = client.speak(endless())
                speaking_now.set()
                await heard_of(speech)

        listening = asyncio.create_task(listen())
        await speaking_now.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        assert await service.hung_up() == 1000


async def test_a_session_is_stopped_in_good_order() -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        await service.heard(Start)
        speech = client.speak("Hello.")
        await service.heard(Speak)
        stopping = asyncio.create_task(client.stop("goodbye"))
        assert (await service.heard(Stop)).reason == "goodbye"
        await service.say(failed("CANCELLED", "u1"), Stopped(reason="goodbye"))
        await service.hang_up()
        await stopping
        with pytest.raises(UtteranceCancelled):
            await heard_of(speech)


def test_every_failure_is_a_client_error() -> None:
    for kind in (ServiceUnreachable, ConnectionLost, ServiceError, UtteranceCancelled):
        assert issubclass(kind, ClientError)
