"""A client that takes audio as fast as it plays is never cut off, in any format, over HTTP and WebSocket."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from typing import Any, NamedTuple, get_args

import pytest

from makima_tts.audio import OutputFormat
from makima_tts.protocol import SAMPLE_RATES_HZ, AudioFormat
from makima_tts.protocol.messages import ENCODINGS
from makima_tts.server import transport
from makima_tts.speaking import _COMPRESSED
from tests.api.conftest import Run
from tests.api.service import PATIENCE_S
from tests.transport.wire import Opcode, frame, upgrade_request

STALL_S = 2.0
# Longer than the deadline of both protocols.
LASTS_S = 4.2
STEP_S = 0.05
# Much smaller, and the kernel sends only when its probes of the closed window are due.
WINDOW_BYTES = 8192
# A full buffer of this size takes nothing until most of it was read, and the deadline is short: the slowest
# readers play faster, as with a longer deadline.
SLOWEST_BYTES_PER_S = 64_000
COMPRESSED_BYTES_PER_S = 8000
ENDLESS = "{endless}"


class Reader(NamedTuple):
    """What a client sends, what it sends once there is an answer, and the bytes per second it asks for."""

    name: str
    request: bytes
    messages: bytes
    bytes_per_s: int


def http_readers() -> Iterator[Reader]:
    for form, rate_hz in product(get_args(OutputFormat), (8000, 24000, 48000)):
        if form in ("mulaw", "alaw") and rate_hz != 8000:
            continue
        fields = {"input": ENDLESS, "response_format": form, "sample_rate": rate_hz}
        body = json.dumps(fields).encode()
        head = "POST /v1/audio/speech HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        pcm_bytes_per_s = rate_hz * (1 if form in ("mulaw", "alaw") else 2)
        bytes_per_s = COMPRESSED_BYTES_PER_S if form in _COMPRESSED else pcm_bytes_per_s
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        yield Reader(f"HTTP {form} {rate_hz}", request, b"", bytes_per_s)


def websocket_readers() -> Iterator[Reader]:
    for encoding, rate_hz, form in product(ENCODINGS, SAMPLE_RATES_HZ, ("binary", "json")):
        if encoding in ("mulaw", "alaw") and rate_hz != 8000:
            continue
        start = {"type": "start", "encoding": encoding, "sampleRate": rate_hz, "transport": form}
        says: list[dict[str, Any]] = [start, {"type": "speak", "text": ENDLESS}]
        frames = b"".join(frame(Opcode.TEXT, json.dumps(message).encode()) for message in says)
        bytes_per_s = rate_hz * AudioFormat(rate_hz, encoding).bytes_per_sample
        yield Reader(
            f"WebSocket {encoding} {rate_hz} {form}",
            upgrade_request("/api/v1/speak"),
            frames,
            bytes_per_s if form == "binary" else bytes_per_s * 4 // 3,
        )


async def read_at_playing_speed(client: socket.socket, reader: Reader) -> None:
    """Raises ConnectionError when it is cut off."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, reader.request)
    assert (await loop.sock_recv(client, len("HTTP/1.1 101"))).startswith(b"HTTP/1.1")
    await loop.sock_sendall(client, reader.messages)
    ends_s = loop.time() + LASTS_S
    while loop.time() < ends_s:
        await asyncio.sleep(STEP_S)  # the reader's speed is what is tested
        async with asyncio.timeout(PATIENCE_S):
            if not await loop.sock_recv(client, int(max(reader.bytes_per_s, SLOWEST_BYTES_PER_S) * STEP_S)):
                raise ConnectionError


async def test_a_client_that_takes_what_it_plays_is_never_cut_off(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings wait behind the audio, so these clients have not answered one yet."""
    monkeypatch.setattr(transport, "PING_INTERVAL_S", STALL_S / 5)
    sessions = list(websocket_readers())
    readers = [*http_readers(), *sessions]
    async with run(stall_timeout_s=STALL_S, max_connections=len(sessions)) as service:
        await service.until_ready()
        host, port = service.url.removeprefix("http://").split(":")
        with ExitStack() as opened:
            clients = [opened.enter_context(socket.socket()) for _ in readers]
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
                client.connect((host, int(port)))
                client.setblocking(False)
            reading = map(read_at_playing_speed, clients, readers)
            ends = await asyncio.gather(*reading, return_exceptions=True)
            assert [reader.name for reader, end in zip(readers, ends, strict=True) if end] == []
            assert service.service.full
