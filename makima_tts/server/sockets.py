"""Where the server listens: sockets with the options that a stream of speech needs.

In: a host, a port, how long a peer may take nothing. Out: bound sockets and the URL to tell. Does not know:
HTTP, WebSockets, uvicorn.
"""

import errno
import resource
import socket
import sys
from contextlib import ExitStack, closing, suppress

# The kernel's own choice holds 82 s of 24 kHz speech: a dead listener would look alive for as long
SEND_BUFFER_BYTES = 64 * 1024
# The system's own two hours are for another age.
KEEPALIVE_IDLE_S = 60

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where a wildcard is reached)
_DARWIN_OPEN_FILES = 10_240  # macOS refuses more, also where it calls its hard limit infinite


class CannotListen(Exception):
    """The address cannot be had; the message is one line for the operator: why, and what to do."""


def listen_on(host: str, port: int, *, stall_timeout_s: float) -> list[socket.socket]:
    """One bound socket per address of ``host``, all on one port (0: a free one). Raises CannotListen."""
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            try:
                listener = opened.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
                _set_options(listener, stall_timeout_s)
                # the first address settles port 0: localhost is one place, on IPv4 and on IPv6
                listener.bind((address, sockets[0].getsockname()[1] if sockets else port))
                sockets.append(listener)
            except OSError as failure:
                if failure.errno not in _ABSENT:
                    raise CannotListen(_reason(failure, host, port)) from None
        if not sockets:
            raise CannotListen(f"{host} is no address of this machine: choose another (--host, TTS_HOST).")
        opened.pop_all()
        return sockets


def url_of(host: str, port: int) -> str:
    """Where this machine finds what listens on ``host``; a wildcard is reached as the loopback."""
    reachable = _WILDCARDS.get(host, host)
    name = f"[{reachable}]" if ":" in reachable else reachable
    return f"http://{name}:{port}"


def raise_open_files_limit() -> None:
    """Every connection is an open file, and the usual soft limit of 1024 is below our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _DARWIN_OPEN_FILES) if sys.platform == "darwin" else hard
    if wanted > soft:
        # a system that refuses leaves the limit as it was: fewer connections are no reason not to start
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise CannotListen(f"{host} cannot be resolved: choose another address (--host, TTS_HOST).") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _set_options(listener: socket.socket, stall_timeout_s: float) -> None:
    """Accepted sockets inherit these."""
    # Else a small chunk waits until what was sent before it is acknowledged, which peers delay for 40 ms.
    # asyncio sets it only where a socket says that its protocol is TCP, and those of socket.socket do not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    # A peer that vanishes while it is its turn to speak is found by asking.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: also ends a peer that vanished without a word
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout_s * 1000))
    if listener.family == socket.AF_INET6:  # else "localhost" collides with its own IPv4 address
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
