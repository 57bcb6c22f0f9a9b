"""The process: sockets, signals, drain, exit.

In: an ASGI app, its Lifecycle, an address. Out: a server that drains on the first signal and stops on the
second. Does not know: sessions, engines, settings, the app's responses.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from makima_tts.server.sockets import CannotListen, listen_on, raise_open_files_limit, url_of
from makima_tts.server.transport import TransportConfig

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Lifecycle(Protocol):
    """The app's part of a shutdown."""

    def begin_drain(self) -> None:
        """Turn ``/ready`` to 503, refuse new work, notify every session. Returns at once."""

    async def drained(self) -> None:
        """Return when no utterance is pending and every session has closed. May be cancelled."""


def run(
    app: ASGIApp,
    lifecycle: Lifecycle,
    *,
    host: str,
    port: int,
    stall_timeout_s: float,
    drain_timeout_s: float,
    on_listening: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM. Main thread only, since it installs signal handlers.

    host: a name or an address; port: 0 takes a free one. stall_timeout_s: a client that reads nothing for
    this long is dropped. drain_timeout_s: after the first signal utterances may finish for this long; a
    second signal stops at once, a third kills. on_listening: gets the URL once it is served. If it cannot
    start: one line on stderr and exit code 1.
    """
    raise_open_files_limit()
    with ExitStack() as opened:
        try:
            sockets = listen_on(host, port, stall_timeout_s=stall_timeout_s)
        except CannotListen as failure:
            sys.exit(str(failure))
        for listener in sockets:
            opened.enter_context(closing(listener))
        url = url_of(host, sockets[0].getsockname()[1])
        config = TransportConfig(app, stall_timeout_s=stall_timeout_s)
        server = _DrainingServer(config, lifecycle, drain_timeout_s, lambda: on_listening(url))
        asyncio.run(server.serve(sockets))


class _DrainingServer(uvicorn.Server):
    """Stock uvicorn closes every WebSocket on a signal, mid-word; this one lets utterances finish."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        drain_timeout_s: float,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_timeout_s = drain_timeout_s
        self._on_started = on_started
        self._signalled = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Not loop.add_signal_handler: it needs a byte in the loop's wake-up pipe, and a signal is lost while
        # engine threads have filled that.
        loop = asyncio.get_running_loop()
        before = {
            number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal))
            for number in _SIGNALS
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self) -> None:
        if self._signalled.is_set():
            self.should_exit = True
            for number in _SIGNALS:  # if the shutdown hangs, a third signal kills the process
                signal.signal(number, signal.SIG_DFL)
        self._signalled.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # raised by uvicorn when the app's lifespan failed, which it has logged
            raise SystemExit("The service could not start; the log says why.") from None
        self._on_started()

    async def main_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(self._drain())
            await super().main_loop()
            draining.cancel()

    async def _drain(self) -> None:
        """The socket stays open meanwhile: health checks are answered, new sessions get the reason."""
        await self._signalled.wait()
        self._lifecycle.begin_drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout_s):
                await self._lifecycle.drained()
        self.should_exit = True
