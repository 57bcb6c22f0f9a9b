"""The process: sockets, signals, drain, exit.

In: an ASGI app, its Lifecycle, an address. Out: a server that drains on the first signal and stops on the
second. Does not know: sessions, engines, settings, the app's responses.
"""

import asyncio
import errno
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from makima_tts.server.transport import TransportConfig

# The kernel's default holds 82 s of 24 kHz speech: a dead client would look alive for as long.
SEND_BUFFER_BYTES = 64 * 1024
# The system's default is two hours.
KEEPALIVE_IDLE_S = 60

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_DARWIN_OPEN_FILES = 10_240  # macOS refuses more, even if its hard limit is infinite


class CannotListen(Exception):
    """The message is one line for the operator: why, and what to do."""


def listen_on(host: str, port: int) -> list[socket.socket]:
    """One bound socket per address of ``host``, all on one port (0: a free one). Raises CannotListen."""
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            try:
                listener = opened.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
                _set_options(listener)
                # the first address settles port 0, so that localhost has one port on IPv4 and IPv6
                listener.bind((address, sockets[0].getsockname()[1] if sockets else port))
                sockets.append(listener)
            except OSError as failure:
                if failure.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise CannotListen(_reason(failure, host, port)) from None
        if not sockets:
            raise CannotListen(f"{host} is no address of this machine: choose another (--host, TTS_HOST).")
        opened.pop_all()
        return sockets


def url_of(host: str, port: int) -> str:
    """The URL on this machine; a wildcard address is reached as the loopback."""
    reachable = _WILDCARDS.get(host, host)
    name = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{name}:{port}"


def raise_open_files_limit() -> None:
    """Every connection is an open file, and the usual soft limit of 1024 is below our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, _DARWIN_OPEN_FILES) if sys.platform == "darwin" else hard
    if limit > soft:
        # if the system refuses, the server starts all the same, with fewer connections
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise CannotListen(f"{host} cannot be resolved: choose another address (--host, TTS_HOST).") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _set_options(listener: socket.socket) -> None:
    """Accepted sockets inherit these."""
    # Else a small chunk waits for the acknowledgement of the one before, which peers delay by 40 ms. asyncio
    # sets it only on sockets whose ``proto`` is TCP, and that of socket.socket is 0.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    # Keepalive finds a client that vanished while the server waits for its next message.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    if listener.family == socket.AF_INET6:  # else binding localhost on IPv6 conflicts with its IPv4 socket
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _reason(failure: OSError, host: str, port: int) -> str:
    if failure.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop the program that holds it, "
            "or choose another port (--port, TTS_PORT; 0 takes a free one)."
        )
    if failure.errno == errno.EACCES:
        return f"Port {port} needs privileges: choose one above 1023 (--port, TTS_PORT)."
    return f"Cannot listen on {host}, port {port}: {failure.strerror}."


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

    host: a name or an address; port: 0 takes a free one. stall_timeout_s: a client that takes no bytes for
    this long is dropped, over HTTP after twice as long. drain_timeout_s: after the first signal utterances
    may finish for this long; a second signal stops at once, a third kills. on_listening: gets the URL once it
    is served. If it cannot start: one line on stderr and exit code 1.
    """
    raise_open_files_limit()
    with ExitStack() as opened:
        try:
            sockets = listen_on(host, port)
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
