"""The bootstrap: the process around the app.

In: an ASGI app, its Lifecycle, where to listen. Out: a server that drains on the first signal and stops on
the second. Does not know: sessions, engines, settings, what the app answers.
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
    """What the bootstrap asks of the app when the process is told to end."""

    def begin_drain(self) -> None:
        """Turn ``/ready`` to 503, refuse new work, tell every session. Returns at once."""
        ...

    async def drained(self) -> None:
        """Return when no utterance is pending and every session has closed. May be cancelled."""
        ...


class CannotStart(Exception):
    """The app did not start; the message is one line for the operator."""


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
    """``serve`` in a loop of its own. If it cannot start: one line on stderr and exit code 1."""
    serving = serve(
        app,
        lifecycle,
        host=host,
        port=port,
        stall_timeout_s=stall_timeout_s,
        drain_timeout_s=drain_timeout_s,
        on_listening=on_listening,
    )
    try:
        asyncio.run(serving)
    except (CannotListen, CannotStart) as failure:
        sys.exit(str(failure))


async def serve(
    app: ASGIApp,
    lifecycle: Lifecycle,
    *,
    host: str,
    port: int,
    stall_timeout_s: float,
    drain_timeout_s: float,
    on_listening: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM has been obeyed. Main thread only: it owns the signals.

    host: a name or an address; port: 0 takes a free one. stall_timeout_s: a peer that takes nothing for this
    long is dropped. drain_timeout_s: after the first signal utterances may finish for this long; a second
    signal stops at once, a third kills. on_listening: told the URL as soon as it answers.
    Raises CannotListen, CannotStart.
    """
    raise_open_files_limit()
    with ExitStack() as opened:
        sockets = listen_on(host, port, stall_timeout_s=stall_timeout_s)
        for listener in sockets:
            opened.enter_context(closing(listener))
        url = url_of(host, sockets[0].getsockname()[1])
        config = TransportConfig(app, stall_timeout_s=stall_timeout_s)
        server = _DrainingServer(config, lifecycle, drain_timeout_s, lambda: on_listening(url))
        await server.serve(sockets)


class _DrainingServer(uvicorn.Server):
    """Stock uvicorn answers a signal by closing every WebSocket, mid-word; this one lets them finish."""

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
        self._told_to_end = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # loop.add_signal_handler would be told by a byte in the pipe that also wakes the loop for engine
        # threads: while they have filled it, a signal is lost. This way it is only as late as the loop.
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
        if self._told_to_end.is_set():
            self.should_exit = True
            for number in _SIGNALS:  # whatever hangs from here on, a third signal ends it
                signal.signal(number, signal.SIG_DFL)
        self._told_to_end.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn's way to say that the app's lifespan failed; it has logged why
            raise CannotStart("The service could not start; the log says why.") from None
        self._on_started()

    async def main_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(self._drain())
            await super().main_loop()
            draining.cancel()

    async def _drain(self) -> None:
        """Listening goes on meanwhile: ``/health`` and ``/ready`` answer, new sessions hear why not."""
        await self._told_to_end.wait()
        self._lifecycle.begin_drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout_s):
                await self._lifecycle.drained()
        self.should_exit = True
