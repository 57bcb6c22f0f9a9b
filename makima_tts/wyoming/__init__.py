"""A bridge to Home Assistant: the tts part of the Wyoming protocol.

In: an address to listen on, the address of the service's WebSocket. Out: audio and voices, for Wyoming
clients. Does not know: how speech is generated; it is a client of the service like any other.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.wyoming.peer import EventReader, Peer


async def serve(uri: str, service_url: str, on_listening: Callable[[str, str], None]) -> None:
    """Bridges until it is cancelled. ``service_url`` is the address of the service's WebSocket.

    Raises InvalidMessage for a malformed address, TtsUnavailable if it cannot be listened on.
    """
    peers: set[asyncio.Task[None]] = set()

    # Tasks of our own: asyncio logs an error when a connection's own task is cancelled.
    def on_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = asyncio.create_task(Peer(reader, writer, service_url).serve())
        peers.add(peer)
        peer.add_done_callback(peers.discard)

    loop = asyncio.get_running_loop()
    host, port = _address_of(uri)
    try:
        server = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(EventReader(loop=loop), on_connected, loop=loop), host, port
        )
    except OSError as failure:
        raise TtsUnavailable(f"{uri} cannot be listened on: {failure.strerror}.") from None
    async with server:
        address, listening_port, *_ = server.sockets[0].getsockname()
        name = f"[{address}]" if ":" in address else address
        on_listening(f"tcp://{name}:{listening_port}", service_url)
        await server.serve_forever()


def _address_of(uri: str) -> tuple[str, int]:
    with suppress(ValueError):
        address = urlsplit(uri)
        if address.scheme == "tcp" and address.hostname and address.port is not None:
            return address.hostname, address.port
    raise InvalidMessage("That is no address to listen on; try one such as tcp://127.0.0.1:10200.")
