"""A bridge to Home Assistant: the tts part of the Wyoming protocol, spoken for a service of ours.

In: an address to listen on, the address of the service's WebSocket. Out: nothing but what its clients hear.
Does not know: how anything is spoken; it is a client of the service like any other.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.wyoming.peer import EventReader, Peer


async def serve(uri: str, service_url: str, on_listening: Callable[[str, str], None]) -> None:
    """Bridges until it is cancelled. ``service_url`` is the address of the service's WebSocket.

    Raises InvalidMessage for an address that is none, TtsUnavailable for one that cannot be had.
    """
    peers: set[asyncio.Task[None]] = set()

    # Not itself the task of a connection: those, asyncio complains of when they are cancelled.
    def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = asyncio.create_task(Peer(reader, writer, service_url).serve())
        peers.add(peer)
        peer.add_done_callback(peers.discard)

    loop = asyncio.get_running_loop()
    host, port = _address_of(uri)
    try:
        server = await loop.create_server(
            lambda: asyncio.StreamReaderProtocol(EventReader(loop=loop), meet, loop=loop), host, port
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
        where = urlsplit(uri)
        if where.scheme == "tcp" and where.hostname and where.port is not None:
            return where.hostname, where.port
    raise InvalidMessage("That is no address to listen on; try one such as tcp://127.0.0.1:10200.")
