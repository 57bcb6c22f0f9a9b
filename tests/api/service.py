"""The real app on a real socket, in the test's own loop, so that a test can hold the engine's gates.

In: settings and an engine. Out: a running service, and clients of it. Does not know: what is tested.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from makima_tts import factory
from makima_tts.api.service import Service
from makima_tts.engines import ScriptedEngine
from makima_tts.server.process import listen_on, url_of
from makima_tts.server.transport import TransportConfig
from makima_tts.settings import Settings
from makima_tts.speech import SpeechEngine

PATIENCE_S = 20.0


class _Server(uvicorn.Server):
    """Signals belong to the test runner."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.told_to_stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        await self.told_to_stop.wait()


class Client:
    """A WebSocket client that reads messages as dicts and audio as bytes."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, type_: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def next(self) -> dict[str, Any] | bytes:
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.socket.recv()
        return frame if isinstance(frame, bytes) else dict(json.loads(frame))

    async def until(self, *types: str) -> tuple[dict[str, Any], list[dict[str, Any] | bytes]]:
        """The first message of one of these types, and all that came before it."""
        before: list[dict[str, Any] | bytes] = []
        while True:
            frame = await self.next()
            if isinstance(frame, dict) and frame["type"] in types:
                return frame, before
            before.append(frame)

    async def rest(self) -> list[dict[str, Any] | bytes]:
        """Everything until the close."""
        frames: list[dict[str, Any] | bytes] = []
        with suppress(ConnectionClosed):
            while True:
                frames.append(await self.next())
        return frames

    async def close_code(self) -> int | None:
        await self.rest()
        return self.socket.close_code


class RunningService:
    """``url`` is its http address; ``service`` its inside."""

    def __init__(self, url: str, service: Service) -> None:
        self.url = url
        self.socket_url = f"ws{url.removeprefix('http')}/api/v1/speak"
        self.service = service

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        async with connect(self.socket_url, close_timeout=1, **options) as socket:
            yield Client(socket)

    @asynccontextmanager
    async def started(self, **fields: Any) -> AsyncIterator[Client]:
        """A client past ``ready`` and ``started``."""
        async with self.client() as client:
            await client.send("start", **fields)
            await client.until("started")
            yield client

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    async def until_ready(self) -> None:
        """The engine can speak."""
        async with self.client() as client:
            await client.until("ready")

    async def until_idle(self) -> None:
        """No utterance is open with the engine."""
        await self.until_active(0)

    async def until_active(self, wanted: int) -> None:
        """So many utterances are open with the engine."""
        await self.until(lambda: self.service.engine.health().active == wanted)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Something inside the service, which has no event for it, has come to hold."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@asynccontextmanager
async def running(
    folder: Path, engine: SpeechEngine | None = None, *, stall_timeout_s: float = 10.0, **settings: Any
) -> AsyncIterator[RunningService]:
    """Serves until the block ends."""
    chosen = Settings(
        _env_file=None,
        engine="scripted",
        voices_dir=folder / "voices",
        cache_dir=folder / "cache",
        **settings,
    )
    service = factory.build_service(chosen, engine or ScriptedEngine())
    (listener,) = listen_on("127.0.0.1", 0)
    app = factory.build_app(chosen, service)
    server = _Server(TransportConfig(app, stall_timeout_s=stall_timeout_s))
    serving = asyncio.create_task(server.serve([listener]))
    await server.listening.wait()
    try:
        yield RunningService(url_of("127.0.0.1", listener.getsockname()[1]), service)
    finally:
        server.told_to_stop.set()
        await serving
        listener.close()
