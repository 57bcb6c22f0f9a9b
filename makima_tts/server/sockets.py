"""Listening sockets, with the options that a stream of speech needs.

In: a host, a port, a stall timeout. Out: bound sockets and their URL. Does not know: HTTP,
WebSockets, uvicorn.
"""

import errno
import resource
import socket
import sys
from contextlib import ExitStack, closing, suppress

# The kernel's default holds 82 s of 24 kHz speech: a dead client would look alive for as long.
SEND_BUFFER_BYTES = 64 * 1024
# The system's default is two hours.
KEEPALIVE_IDLE_S = 60

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_DARWIN_OPEN_FILES = 10_240  # macOS refuses more, even if its hard limit is infinite


class CannotListen(Exception):
    """The message is one line for the operator: why, and what to do."""


def listen_on(host: str, port: int, *, stall_timeout_s: float) -> list[socket.socket]:
    """One bound socket per address of ``host``, all on one port (0: a free one). Raises CannotListen."""
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            try:
                listener = opened.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
                _set_options(listener, stall_timeout_s)
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


def _set_options(listener: socket.socket, stall_timeout_s: float) -> None:
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
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: drops a client that vanished while data is sent
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout_s * 1000))
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
