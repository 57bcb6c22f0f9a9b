"""A service whose messages a test sends.

In: what the test wants said. Out: what the client said. Does not know: any of the service's code; it greets
and then does only what it is told, so that every test is one exact conversation.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from makima_tts.client import Speech
from makima_tts.protocol import (
    SUBPROTOCOL,
    Capabilities,
    ClientMessage,
    Complete,
    ErrorMessage,
    Ready,
    ReadyLimits,
    ServerMessage,
    Speaking,
    Started,
    parse_client_message,
    serialize,
)

MAX_TEXT_CHARS = 20

READY = Ready(
    session_id="s1",
    voice_loaded=True,
    capabilities=Capabilities(
        languages=("English",),
        encodings=("pcm16", "pcm32f"),
        sample_rates=(24000,),
        cloning=False,
        text_streaming=True,
    ),
    engine="fake",
    model="fake",
    protocol_version=1,
    limits=ReadyLimits(
        max_text_chars=MAX_TEXT_CHARS,
        max_queued_utterances=32,
        idle_timeout_ms=120_000,
        max_session_ms=3_600_000,
        max_text_stall_ms=30_000,
    ),
    sample_rate=24000,
    encoding="pcm16",
    voice="narrator",
)
STARTED = Started(sample_rate=24000, encoding="pcm16", voice="narrator", language="English")

_Heard = TypeVar("_Heard", bound=ClientMessage)


def speaking(utterance_id: str) -> Speaking:
    """The message before an utterance's first audio."""
    return Speaking(utterance_id=utterance_id, sample_rate=24000, encoding="pcm16", queue_ms=0)


def complete(utterance_id: str, text_length: int = 5) -> Complete:
    """The end of a successful utterance."""
    return Complete(
        utterance_id=utterance_id,
        duration_ms=100,
        audio_length_ms=80,
        characters_processed=5,
        text_length=text_length,
        total_chunks=1,
        ttfa_ms=40,
        queue_ms=0,
        rtf=0.5,
        finish_reason="stop",
    )


def failed(code: str, utterance_id: str | None = None, retry_after_ms: int | None = None) -> ErrorMessage:
    """An error as the service words it."""
    return ErrorMessage(
        code=code,
        message="What to do.",
        recoverable=code != "UNAUTHORIZED",
        utterance_id=utterance_id,
        retry_after_ms=retry_after_ms,
    )


async def heard_of(speech: Speech) -> list[bytes]:
    """The audio of an utterance, to its end."""
    return [chunk.pcm async for chunk in speech]


class FakeService:
    """Listens on a free port; talks to the latest client. ``greeting`` answers the client's ``start``."""

    def __init__(self, greeting: Sequence[ServerMessage] = (READY, STARTED)) -> None:
        self.greeting = greeting
        self._heard: asyncio.Queue[ClientMessage] = asyncio.Queue()
        self._socket: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
        self.connections = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        server = await self._stack.enter_async_context(
            serve(self._serve, "127.0.0.1", 0, compression=None, subprotocols=[Subprotocol(SUBPROTOCOL)])
        )
        self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/api/v1/speak"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, socket: ServerConnection) -> None:
        self.subprotocol = socket.subprotocol
        self.connections += 1
        if self._socket.done():
            self._socket = asyncio.get_running_loop().create_future()
        self._socket.set_result(socket)
        await self.say(*self.greeting)
        async for frame in socket:
            assert isinstance(frame, str)
            self._heard.put_nowait(parse_client_message(frame))

    async def heard(self, kind: type[_Heard]) -> _Heard:
        """The next message, which must be of this kind."""
        message = await self._heard.get()
        assert isinstance(message, kind)
        return message

    async def say(self, *frames: ServerMessage | bytes | str) -> None:
        """One frame for each; a str is sent unchanged."""
        socket = await self._socket
        for frame in frames:
            await socket.send(frame if isinstance(frame, bytes | str) else serialize(frame))

    async def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection."""
        await (await self._socket).close(code, reason)

    async def hung_up(self) -> int | None:
        """Waits for the end of the connection; the code with which the client closed it."""
        socket = await self._socket
        await socket.wait_closed()
        return socket.close_code

    def break_off(self) -> None:
        """Ends the connection without a close frame."""
        self._socket.result().transport.abort()
