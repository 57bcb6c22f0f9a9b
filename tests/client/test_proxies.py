"""Connections through the proxy of the environment."""

import asyncio

import pytest

from makima_tts.client import ServiceUnreachable, SpeechClient
from tests.client.fake_service import READY, FakeService


@pytest.fixture(autouse=True)
def no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes this machine's proxy settings."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "ws_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_this_machine_is_reached_without_a_proxy(
    host: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with FakeService() as service:
        async with SpeechClient.connect(service.url.replace("127.0.0.1", host)) as client:
            assert client.ready == READY


async def test_another_machine_is_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        monkeypatch.setenv("ws_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ServiceUnreachable, match=r"speech\.example"):
            async with SpeechClient.connect("ws://speech.example:8001/api/v1/speak"):
                pytest.fail("there is no session")
    assert asked == [b"CONNECT speech.example:8001 HTTP/1.1\r\n"]
