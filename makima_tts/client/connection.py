"""One connection to a service.

In: an address, the session asked for, texts. Out: one :class:`Speech` for each text. Does not know: what is
done with the audio.

One task reads the socket and gives every frame to its utterance; a text has a task of its own that sends
it, because it may still be growing. All of them end with the connection.
"""

import asyncio
import base64
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TypedDict, TypeVar, Unpack
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from makima_tts.client.failures import (
    ClientError,
    ConnectionLost,
    ServiceUnreachable,
    UtteranceCancelled,
    failure_of,
)
from makima_tts.client.speech import Speech
from makima_tts.client.writing import Text, fits_one_message, parts_of
from makima_tts.errors import Cancelled, InvalidMessage
from makima_tts.protocol import (
    SUBPROTOCOL,
    AudioChunkMessage,
    Cancel,
    ClientMessage,
    Complete,
    ErrorMessage,
    Flush,
    Loading,
    PriorityName,
    Ready,
    Sentence,
    ServerMessage,
    Speak,
    Speaking,
    Start,
    Started,
    Stop,
    parse_server_message,
    serialize,
)

# A frame is a chunk of audio; the longest are whole sentences of an engine that makes them at once.
MAX_FRAME_BYTES = 16 * 1024 * 1024
CLOSE_TIMEOUT_S = 2.0

OnLoading = Callable[[Loading], None]
_Expected = TypeVar("_Expected", Ready, Started)


class SpeakOptions(TypedDict, total=False):
    """What ``speak`` may say about one utterance; what is left out is the session's."""

    utterance_id: str
    voice: str
    language: str
    priority: PriorityName
    seed: int


class SpeechClient:
    """A session with a service, on one event loop; made by :meth:`connect`."""

    def __init__(self, socket: ClientConnection, ready: Ready, started: Started) -> None:
        self.ready = ready
        self.started = started
        self._socket = socket
        self._open: dict[str, Speech] = {}
        self._speaking: Speech | None = None
        self._ids = itertools.count(1)
        self._session_failure: ClientError | None = None
        self._ended: ClientError | None = None
        self._reader = asyncio.create_task(self._read())
        self._writers: dict[str, asyncio.Task[None]] = {}

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        start: Start | None = None,
        *,
        on_loading: OnLoading = lambda _: None,
        ready_timeout_s: float = 660.0,
    ) -> AsyncIterator["SpeechClient"]:
        """A session at ``url`` (``ws://host:port/api/v1/speak``) with the voice and format of ``start``.

        Waits until the service can speak; ``on_loading`` hears how far it has come. Leaving the context
        silences everything. Raises ServiceUnreachable, ServiceError, ConnectionLost, TimeoutError.
        """
        async with _opened(url) as socket:
            async with asyncio.timeout(ready_timeout_s):
                ready, started = await _greet(socket, start or Start(), on_loading)
            client = cls(socket, ready, started)
            try:
                yield client
            finally:
                await client.close()

    def speak(self, text: Text, **options: Unpack[SpeakOptions]) -> Speech:
        """Queue ``text``, and iterate what is returned. Sending starts at once.

        ``text`` is whole (of any length that the service takes for an utterance), or an iterable, async or
        not, that is still being written; one that blocks is read in a thread. Raises ValueError for an
        option that the protocol does not allow, or an ``utterance_id`` that is being spoken.
        """
        opening = Speak.model_validate({"text": "", "utterance_id": f"u{next(self._ids)}", **options})
        utterance_id = str(opening.utterance_id)
        if utterance_id in self._open:
            raise ValueError("This utterance_id is in use; one names one utterance per session.")
        speech = Speech(utterance_id, self._cancel)
        if self._ended is not None:
            speech.fail(self._ended)
            return speech
        self._open[utterance_id] = speech
        self._writers[utterance_id] = asyncio.create_task(self._write(speech, text, opening))
        return speech

    async def flush(self, utterance_id: str) -> None:
        """Have the text of an utterance that is still being written spoken as far as it goes."""
        await self._send(Flush(utterance_id=utterance_id))

    async def cancel(self, played_ms: int | None = None) -> None:
        """Silence every utterance of this session, queued ones too."""
        for speech in list(self._open.values()):
            await speech.cancel(played_ms)

    async def stop(self, reason: str | None = None) -> None:
        """End the session in good order; utterances that are pending raise UtteranceCancelled."""
        await self._send(Stop(reason=reason))
        await asyncio.wait({self._reader}, timeout=CLOSE_TIMEOUT_S)
        await self.close()

    async def close(self) -> None:
        """Hang up. Takes two seconds at most; idempotent."""
        await self._socket.close()
        tasks = {self._reader, *self._writers.values()}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._end(ConnectionLost("The connection was closed by this side."))

    async def _send(self, message: ClientMessage) -> None:
        # A connection that is over is reported once, by the reader, to whoever waits for audio.
        with suppress(ConnectionClosed):
            await self._socket.send(serialize(message))

    async def _cancel(self, utterance_id: str, played_ms: int | None) -> None:
        if self._open[utterance_id].sent_s is None:
            # The service has not heard of it, and now it never will.
            self._close_utterance(utterance_id).fail(UtteranceCancelled(_never_sent(utterance_id)))
        else:
            await self._send(Cancel(utterance_id=utterance_id, played_ms=played_ms))

    async def _write(self, speech: Speech, text: Text, opening: Speak) -> None:
        """Sends the text; one that fails to be written takes its utterance with it."""
        try:
            await self._send_text(speech, text, opening)
        except Exception as failure:
            if not speech.over:
                speech.fail(failure)
                await self._cancel(speech.utterance_id, None)

    async def _send_text(self, speech: Speech, text: Text, opening: Speak) -> None:
        max_chars = self.ready.limits.max_text_chars
        if fits_one_message(text, max_chars):
            await self._say(speech, opening.model_copy(update={"text": text}))
            return
        async for part in parts_of(text, max_chars):
            await self._say(speech, opening.model_copy(update={"text": part, "final": False}))
        await self._say(speech, opening)

    async def _say(self, speech: Speech, message: Speak) -> None:
        speech.sent_s = speech.sent_s or time.monotonic()
        await self._send(message)

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._socket.recv()
                if isinstance(frame, str):
                    await self._route(parse_server_message(frame))
                elif self._speaking is not None:
                    await self._speaking.deliver(frame)
        except ConnectionClosed as closed:
            self._end(_lost(closed))
        except InvalidMessage as failure:
            self._end(ConnectionLost(failure.message))

    async def _route(self, message: ServerMessage | None) -> None:
        match message:
            case Speaking(utterance_id=utterance_id):
                self._speaking = self._open.get(utterance_id)
            case Sentence(utterance_id=utterance_id) if utterance_id in self._open:
                self._open[utterance_id].sentences.append(message)
            case AudioChunkMessage(utterance_id=utterance_id) if utterance_id in self._open and message.data:
                await self._open[utterance_id].deliver(base64.b64decode(message.data))
            case Complete(utterance_id=utterance_id) if utterance_id in self._open:
                self._close_utterance(utterance_id).finish(message)
            case ErrorMessage(utterance_id=str(utterance_id)) if utterance_id in self._open:
                self._close_utterance(utterance_id).fail(failure_of(message))
            case ErrorMessage(utterance_id=None):
                self._session_failure = failure_of(message)

    def _close_utterance(self, utterance_id: str) -> Speech:
        """Its terminal message has come: nothing is sent for it any more, and no audio is its own."""
        speech = self._open.pop(utterance_id)
        self._writers.pop(utterance_id).cancel()
        if self._speaking is speech:
            self._speaking = None
        return speech

    def _end(self, reason: ClientError) -> None:
        """The connection is over. An error that the service gave before says more than the close."""
        self._ended = self._ended or self._session_failure or reason
        for speech in self._open.values():
            speech.fail(self._ended)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[ClientConnection]:
    try:
        socket = await open_socket(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=MAX_FRAME_BYTES,
            close_timeout=CLOSE_TIMEOUT_S,
            # a proxy's loopback is not ours; True: whatever proxy the environment names
            proxy=None if _is_loopback(urlsplit(url).hostname) else True,
        )
    except (OSError, WebSocketException) as failure:
        raise ServiceUnreachable(f"No service at {url}: {failure}") from failure
    try:
        yield socket
    finally:
        await socket.close()


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


async def _greet(socket: ClientConnection, start: Start, on_loading: OnLoading) -> tuple[Ready, Started]:
    """``start`` goes out at once: the service holds it until it is ready, and then says both."""
    try:
        await socket.send(serialize(start))
        ready = await _expect(Ready, socket, on_loading)
        return ready, await _expect(Started, socket, on_loading)
    except ConnectionClosed as closed:
        raise _lost(closed) from None
    except InvalidMessage as failure:
        raise ConnectionLost(failure.message) from None


async def _expect(kind: type[_Expected], socket: ClientConnection, on_loading: OnLoading) -> _Expected:
    """The next message of this kind; an error instead of it is raised."""
    while True:
        message = parse_server_message(await socket.recv(decode=True))
        if isinstance(message, kind):
            return message
        if isinstance(message, ErrorMessage):
            raise failure_of(message)
        if isinstance(message, Loading):
            on_loading(message)


def _never_sent(utterance_id: str) -> ErrorMessage:
    return ErrorMessage(
        code=Cancelled.code,
        message="The utterance was cancelled before any of it was sent.",
        recoverable=Cancelled.recoverable,
        utterance_id=utterance_id,
        audio_ms=0,
    )


def _lost(closed: ConnectionClosed) -> ConnectionLost:
    if closed.rcvd is None:
        return ConnectionLost("The connection to the service broke.")
    close = closed.rcvd
    return ConnectionLost(
        f"The service closed the connection ({close.code} {close.reason}).", close_code=close.code
    )
