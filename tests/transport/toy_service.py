"""Small ASGI apps under the real bootstrap, one process each, for tests of the transport alone.

In: options on the command line. Out: one line on stdout per event (``listening URL``, ``draining``,
``connected PATH``, ``ended PATH``). Does not know: the service's app.
"""

import argparse
import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from makima_tts.server import transport
from makima_tts.server.process import run

FRAME = bytes(4096)
LARGE = bytes(1 << 20)


def tell(event: str) -> None:
    print(event, flush=True)


class ToyLifecycle:
    """Ready until the drain starts; drained once every open WebSocket has ended."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.sessions = 0
        self.empty = asyncio.Event()

    def begin_drain(self) -> None:
        tell("draining")
        self.draining.set()

    async def drained(self) -> None:
        while self.sessions:
            self.empty.clear()
            await self.empty.wait()


class ToyService:
    """Each path behaves like one kind of well- or misbehaving app."""

    def __init__(
        self, lifecycle: ToyLifecycle, *, fails_to_start: bool = False, hangs_at_shutdown: bool = False
    ) -> None:
        self.lifecycle = lifecycle
        self.fails_to_start = fails_to_start
        self.hangs_at_shutdown = hangs_at_shutdown
        self.let_in = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        path = scope["path"]
        tell(f"connected {path}")
        try:
            await getattr(self, f"{scope['type']}_{path.strip('/')}")(receive, send)
        finally:
            tell(f"ended {path}")

    async def live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.fails_to_start:
            await send({"type": "lifespan.startup.failed", "message": "no weights"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("shutdown")
        if self.hangs_at_shutdown:
            await asyncio.Event().wait()
        await send({"type": "lifespan.shutdown.complete"})

    async def http_ready(self, receive: Receive, send: Send) -> None:
        await self.answer(send, 503 if self.lifecycle.draining.is_set() else 200, b"")

    async def http_signal_in_a_rush(self, receive: Receive, send: Send) -> None:
        """Signals itself when the wakeup pipe of the event loop is full."""
        await self.answer(send, 200, b"")
        loop = asyncio.get_running_loop()
        for _ in range(20_000):
            loop.call_soon_threadsafe(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)

    async def http_large(self, receive: Receive, send: Send) -> None:
        """More data than kernel buffers hold for a client that does not read."""
        await self.answer(send, 200, LARGE)

    async def http_let_in(self, receive: Receive, send: Send) -> None:
        self.let_in.set()  # releases all waiting requests; the next one waits again
        self.let_in.clear()
        await self.answer(send, 200, b"")

    async def http_upload(self, receive: Receive, send: Send) -> None:
        size_bytes = 0
        while (message := await receive())["type"] == "http.request":
            size_bytes += len(message["body"])
            if not message["more_body"]:
                await self.answer(send, 200, str(size_bytes).encode())
                return

    async def http_late_upload(self, receive: Receive, send: Send) -> None:
        """Reads only after a request to ``/let_in``."""
        await self.let_in.wait()
        await self.http_upload(receive, send)

    async def http_refuse(self, receive: Receive, send: Send) -> None:
        await self.answer(send, 413, b"")

    async def http_stream(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def pour() -> None:
            while True:
                await send({"type": "http.response.body", "body": FRAME, "more_body": True})
                await asyncio.sleep(0)

        await self.until_gone(pour(), receive, "http.disconnect")

    async def websocket_echo(self, receive: Receive, send: Send) -> None:
        async def echo(message: Message) -> None:
            await send({"type": "websocket.send", "text": message["text"]})

        await self.converse(receive, send, echo)

    async def websocket_flood(self, receive: Receive, send: Send) -> None:
        """Sends as fast as possible, and receives at the same time."""
        await self.accept(receive, send)
        await self.until_gone(self.pour_frames(send, pause_s=0), receive, "websocket.disconnect")

    async def websocket_trickle(self, receive: Receive, send: Send) -> None:
        """Sends too little to fill a buffer in the stall timeout: only TCP can detect a lost peer."""
        await self.accept(receive, send)
        await self.until_gone(self.pour_frames(send, pause_s=0.1), receive, "websocket.disconnect")

    async def websocket_close(self, receive: Receive, send: Send) -> None:
        await self.accept(receive, send)
        await send({"type": "websocket.close", "code": 1000})
        tell("closing")

    async def websocket_fill_and_close(self, receive: Receive, send: Send) -> None:
        """Closes after more audio than kernel buffers hold: the close frame never leaves the process."""
        await self.accept(receive, send)
        await send({"type": "websocket.send", "bytes": LARGE})
        with suppress(OSError):
            await send({"type": "websocket.close", "code": 1000})

    async def websocket_crash(self, receive: Receive, send: Send) -> None:
        await self.accept(receive, send)
        raise RuntimeError("a crash that the test asked for")

    async def websocket_late(self, receive: Receive, send: Send) -> None:
        """Accepts only after a request to ``/let_in``."""
        await receive()
        await self.let_in.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async def websocket_undecided(self, receive: Receive, send: Send) -> None:
        """Neither accepts nor refuses."""
        await receive()
        await receive()

    async def websocket_session(self, receive: Receive, send: Send) -> None:
        """Pending until its client sends ``done``, like an utterance until its end."""
        self.lifecycle.sessions += 1
        await self.accept(receive, send)
        message = await receive()
        if message["type"] == "websocket.receive":
            await send({"type": "websocket.close", "code": 1000})
        self.lifecycle.sessions -= 1
        self.lifecycle.empty.set()

    @staticmethod
    async def accept(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    @staticmethod
    async def answer(send: Send, status: int, body: bytes) -> None:
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def converse(
        self, receive: Receive, send: Send, respond: Callable[[Message], Awaitable[None]]
    ) -> None:
        await self.accept(receive, send)
        while (message := await receive())["type"] == "websocket.receive":
            await respond(message)

    @staticmethod
    async def pour_frames(send: Send, *, pause_s: float) -> None:
        sent_bytes = 0
        try:
            while True:
                await send({"type": "websocket.send", "bytes": FRAME})
                sent_bytes += len(FRAME)
                await asyncio.sleep(pause_s)
        finally:
            tell(f"sent {sent_bytes}")

    @staticmethod
    async def until_gone(pouring: Awaitable[None], receive: Receive, gone: str) -> None:
        speaking = asyncio.ensure_future(pouring)
        while (await receive())["type"] != gone:
            pass
        speaking.cancel()
        with suppress(asyncio.CancelledError, OSError):
            await speaking


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stall-s", type=float, default=1.0)
    parser.add_argument("--drain-s", type=float, default=20.0)
    parser.add_argument("--body-s", type=float, default=transport.BODY_TIMEOUT_S)
    parser.add_argument("--fails-to-start", action="store_true")
    parser.add_argument("--hangs-at-shutdown", action="store_true")
    options = parser.parse_args()
    transport.BODY_TIMEOUT_S = options.body_s
    lifecycle = ToyLifecycle()
    run(
        ToyService(
            lifecycle, fails_to_start=options.fails_to_start, hangs_at_shutdown=options.hangs_at_shutdown
        ),
        lifecycle,
        host=options.host,
        port=options.port,
        stall_timeout_s=options.stall_s,
        drain_timeout_s=options.drain_s,
        on_listening=lambda url: tell(f"listening {url}"),
    )


if __name__ == "__main__":
    main()
