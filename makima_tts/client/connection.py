"""One connection to a service: a socket after its handshake; and when to open another.

In: an address and the requested session. Out: the service's messages, in order, and the reason of the end.
Does not know: utterances.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect as open_socket
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from makima_tts.client.failures import (
    ClientError,
    ConnectionLost,
    ServiceUnreachable,
    failure_of,
)
from makima_tts.errors import InvalidMessage
from makima_tts.protocol import (
    SUBPROTOCOL,
    ErrorMessage,
    Loading,
    Ready,
    ServerMessage,
    Start,
    Started,
    parse_server_message,
    serialize,
)

# A frame is a chunk of audio; some engines deliver a whole sentence as one chunk.
MAX_FRAME_BYTES = 16 * 1024 * 1024
CLOSE_TIMEOUT_S = 2.0

OnLoading = Callable[[Loading], None]
_Expected = TypeVar("_Expected", Ready, Started)
_random = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Reconnects:
    """At most ``attempts``: the first at once, the others after waits that double up to ``longest_wait_s``.

    ``attempts`` 0: a connection that is lost stays lost.
    """

    attempts: int = 12
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0

    def waits_s(self, jitter: Callable[[], float] = _random) -> Iterator[float]:
        """The wait before each attempt; up to half of it is jitter, so that clients do not synchronise."""
        for attempt in range(self.attempts):
            full_wait_s = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
            yield full_wait_s * (1 - jitter() / 2) if attempt else 0.0


class Connection:
    """Created by :meth:`open`; ends with an exception of ``receive``."""

    ready: Ready
    started: Started

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._failure: ClientError | None = None

    @classmethod
    async def open(
        cls, url: str, start: Start, on_loading: OnLoading, ready_timeout_s: float
    ) -> "Connection":
        """Waits until the service can speak. Raises ClientError, TimeoutError."""
        connection = cls(await _opened(url))
        try:
            async with asyncio.timeout(ready_timeout_s):
                await connection.send(serialize(start))
                connection.ready = await connection._expect(Ready, on_loading)
                connection.started = await connection._expect(Started, on_loading)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _expect(self, kind: type[_Expected], on_loading: OnLoading) -> _Expected:
        """The next message of this kind; an error instead of it is raised."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message
            if isinstance(message, ErrorMessage):
                raise failure_of(message)
            if isinstance(message, bytes):
                raise ConnectionLost("The service sent audio before it was ready.")
            if isinstance(message, Loading):
                on_loading(message)

    async def send(self, frame: str) -> None:
        # ``receive`` reports the end of a connection, once.
        with suppress(ConnectionClosed):
            await self._socket.send(frame)

    async def receive(self) -> ServerMessage | bytes | None:
        """The next frame; None for a message of a later version. Raises ClientError when the connection ends.

        An error message that the service sent before it closed is preferred to the close code.
        """
        try:
            frame = await self._socket.recv()
            message = parse_server_message(frame) if isinstance(frame, str) else frame
        except ConnectionClosed as closed:
            raise self._failure or _lost(closed) from None
        except InvalidMessage as nonsense:
            raise ConnectionLost(nonsense.message) from None
        if isinstance(message, ErrorMessage) and message.utterance_id is None:
            self._failure = failure_of(message)
        return message

    async def close(self) -> None:
        """Hang up. Takes two seconds at most; idempotent."""
        await self._socket.close()


async def _opened(url: str) -> ClientConnection:
    try:
        return await open_socket(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=MAX_FRAME_BYTES,
            close_timeout=CLOSE_TIMEOUT_S,
            # a proxy's loopback is another machine's; True: the proxy of the environment
            proxy=None if _is_loopback(urlsplit(url).hostname) else True,
        )
    except (OSError, WebSocketException) as failure:
        raise ServiceUnreachable(f"No service at {url}: {failure}") from failure


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _lost(closed: ConnectionClosed) -> ConnectionLost:
    if closed.rcvd is None:
        return ConnectionLost("The connection to the service broke.")
    close = closed.rcvd
    return ConnectionLost(
        f"The service closed the connection ({close.code} {close.reason}).", close_code=close.code
    )
