"""A session with a service, over one connection after another.

In: texts. Out: one :class:`Speech` for each. Does not know: what is done with the audio, how a connection
is made.

One task holds the conversation: it reads, gives every frame to its utterance, and finds another connection
when there is something to say and none is open. A second one sends what was written. A text has a task of
its own that writes it, because it may still be growing. All of them end with the client.
"""

import asyncio
import base64
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, Unpack
from weakref import WeakValueDictionary

from makima_tts.client.connection import CLOSE_TIMEOUT_S, Connection, OnLoading
from makima_tts.client.failures import (
    ClientError,
    ConnectionLost,
    ServiceUnreachable,
    cancelled_here,
    failure_of,
)
from makima_tts.client.reconnecting import Reconnects, asked_wait_s, may_pass
from makima_tts.client.speech import Speech
from makima_tts.client.writing import Manuscript, Text, fits_one_message, parts_of
from makima_tts.protocol import (
    AudioChunkMessage,
    AudioFormat,
    Cancel,
    Complete,
    ErrorMessage,
    Interrupted,
    PriorityName,
    Ready,
    Sentence,
    ServerMessage,
    Speak,
    Speaking,
    Start,
    Started,
    Stop,
)

_NEVER_SENT = "The utterance was cancelled before any of it was sent."


class SpeakOptions(TypedDict, total=False):
    """What ``speak`` may say about one utterance; what is left out is the session's."""

    utterance_id: str
    voice: str
    language: str
    priority: PriorityName
    seed: int


@dataclass(frozen=True, slots=True)
class _Pending:
    """An utterance without its terminal message."""

    speech: Speech
    manuscript: Manuscript
    writer: asyncio.Task[None]


class SpeechClient:
    """A session with a service, on one event loop; made by :meth:`connect`.

    It outlives its connection. What was being spoken when that broke fails with ConnectionLost, and is never
    repeated; what the service had not begun is sent again, as soon as it can be reached.
    """

    def __init__(
        self, first: Connection, reconnect: Callable[[], Awaitable[Connection]], reconnects: Reconnects
    ) -> None:
        self.ready: Ready = first.ready
        self.started: Started = first.started
        self._reconnect = reconnect
        self._reconnects = reconnects
        self._connection: Connection | None = first
        self._pending: dict[str, _Pending] = {}
        # Also those whose audio has arrived and waits to be heard, as long as anybody holds them.
        self._speeches: WeakValueDictionary[str, Speech] = WeakValueDictionary()
        self._speaking: Speech | None = None
        self._ids = itertools.count(1)
        self._ended: ClientError | None = None
        self._written = asyncio.Event()
        self._wanted = asyncio.Event()
        self._waits_s = reconnects.waits_s()
        self._talking = asyncio.create_task(self._talk(first))

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        start: Start | None = None,
        *,
        on_loading: OnLoading = lambda _: None,
        ready_timeout_s: float = 660.0,
        reconnects: Reconnects = Reconnects(),  # noqa: B008 - frozen
    ) -> AsyncIterator["SpeechClient"]:
        """A session at ``url`` (``ws://host:port/api/v1/speak``) with the voice and format of ``start``.

        Waits until the service can speak; ``on_loading`` hears how far it has come. Leaving the context
        silences everything. Raises ServiceUnreachable, ServiceError, ConnectionLost, TimeoutError: the
        first connection is tried once.
        """
        open_one = partial(Connection.open, url, start or Start(), on_loading, ready_timeout_s)
        client = cls(await open_one(), open_one, reconnects)
        try:
            yield client
        finally:
            await client.close()

    @property
    def audio_format(self) -> AudioFormat:
        """What this session's audio is made of."""
        return AudioFormat(self.started.sample_rate, self.started.encoding)

    def speak(self, text: Text, **options: Unpack[SpeakOptions]) -> Speech:
        """Queue ``text``, and iterate, save or play what is returned. Sending starts at once.

        ``text`` is whole (of any length that the service takes for an utterance), or an iterable, async or
        not, that is still being written; one that blocks is read in a thread. Raises ValueError for an
        option that the protocol does not allow, or an ``utterance_id`` that is being spoken.
        """
        opening = Speak.model_validate({"text": "", "utterance_id": f"u{next(self._ids)}", **options})
        utterance_id = str(opening.utterance_id)
        if utterance_id in self._pending:
            raise ValueError("This utterance_id is in use; one names one utterance per session.")
        manuscript = Manuscript(opening)
        speech = Speech(utterance_id, manuscript, self.audio_format, self._cancel)
        if self._ended is not None:
            speech.fail(self._ended)
            return speech
        writer = asyncio.create_task(self._write(speech, manuscript, text))
        self._pending[utterance_id] = _Pending(speech, manuscript, writer)
        self._speeches[utterance_id] = speech
        self._wanted.set()
        return speech

    def flush(self, utterance_id: str) -> None:
        """Have the text of an utterance that is still being written spoken as far as it goes."""
        if utterance_id in self._pending:
            self._pending[utterance_id].manuscript.flush()
            self._written.set()

    async def interrupt(self, played_ms: int | None = None) -> None:
        """Silence every utterance of this session, queued ones too.

        ``played_ms``: how much was played of the one that is being heard; a player knows by itself.
        """
        for speech in [one for one in self._speeches.values() if one.audible]:
            await speech.cancel(played_ms if speech.begun else None)
            played_ms = None if speech.begun else played_ms

    async def stop(self, reason: str | None = None) -> None:
        """End the session in good order; utterances that are pending raise UtteranceCancelled."""
        self._ended = ConnectionLost("The session was stopped by this side.")
        if self._connection is not None:
            await self._connection.send(Stop(reason=reason))
            await asyncio.wait({self._talking}, timeout=CLOSE_TIMEOUT_S)
        await self.close()

    async def close(self) -> None:
        """Hang up. Takes two seconds at most; idempotent."""
        self._ended = self._ended or ConnectionLost("The connection was closed by this side.")
        if self._connection is not None:
            await self._connection.close()
        tasks = {self._talking, *(pending.writer for pending in self._pending.values())}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._fail(self._ended, list(self._pending))

    # Writing

    async def _write(self, speech: Speech, manuscript: Manuscript, text: Text) -> None:
        """Writes the text; one that fails to be written takes its utterance with it."""
        try:
            await self._write_parts(manuscript, text)
        except Exception as failure:
            speech.fail(failure)
            await self._cancel(speech.utterance_id, None)

    async def _write_parts(self, manuscript: Manuscript, text: Text) -> None:
        max_chars = self.ready.limits.max_text_chars
        if isinstance(text, str) and fits_one_message(text, max_chars):
            await self._say(manuscript, text, final=True)
            return
        async with aclosing(parts_of(text, max_chars)) as parts:
            async for part in parts:
                await self._say(manuscript, part, final=False)
        await self._say(manuscript, "", final=True)

    async def _say(self, manuscript: Manuscript, text: str, *, final: bool) -> None:
        manuscript.write(text, final=final)
        self._written.set()
        await manuscript.caught_up()

    async def _send_written(self, connection: Connection) -> None:
        """The only sender of texts: their order is that in which they were asked for."""
        for pending in self._pending.values():
            pending.manuscript.rewind()
        while True:
            self._written.clear()
            for pending in list(self._pending.values()):
                await self._send_one(connection, pending)
            await self._written.wait()

    async def _send_one(self, connection: Connection, pending: _Pending) -> None:
        while not pending.speech.cancelled and (frame := pending.manuscript.take()):
            pending.speech.sent_s = pending.speech.sent_s or time.monotonic()
            await connection.send_frame(frame)

    async def _cancel(self, utterance_id: str, played_ms: int | None) -> None:
        pending = self._pending[utterance_id]
        if self._connection is not None and pending.manuscript.is_sent:
            await self._connection.send(Cancel(utterance_id=utterance_id, played_ms=played_ms))
        else:
            # The service has not heard of it, and now it never will.
            self._close_utterance(utterance_id).fail(cancelled_here(utterance_id, _NEVER_SENT, played_ms))

    # Talking

    async def _talk(self, connection: Connection) -> None:
        while self._ended is None:
            failure = await self._converse(connection)
            self._lose(failure)
            if self._ended is None:
                connection = await self._another(failure)

    async def _converse(self, connection: Connection) -> ClientError:
        """Over one connection, to its end."""
        self._connection, self.ready, self.started = connection, connection.ready, connection.started
        sender = asyncio.create_task(self._send_written(connection))
        try:
            while True:
                await self._route(await connection.receive())
        except ClientError as failure:
            return failure
        finally:
            self._connection = None
            sender.cancel()
            await connection.close()

    async def _another(self, failure: ClientError) -> Connection:
        """The next connection, once there is something to say; whoever waits longer than that fails."""
        while True:
            while not self._pending:
                self._wanted.clear()
                await self._wanted.wait()
            for wait_s in self._waits_s:
                await asyncio.sleep(max(wait_s, asked_wait_s(failure)))
                try:
                    return await self._reconnect()
                except ClientError as again:
                    failure = again
                except TimeoutError:
                    failure = ServiceUnreachable("The service was not ready to speak in time.")
                if not may_pass(failure):
                    break
            self._fail(failure, list(self._pending))
            self._waits_s = self._reconnects.waits_s()

    def _lose(self, failure: ClientError) -> None:
        """Ends what the connection took with it: what had begun, and all if it is of no use to try again."""
        self._speaking = None
        hopeless = not may_pass(failure)
        spoken = [
            one.utterance_id
            for one in (pending.speech for pending in self._pending.values())
            if hopeless or one.begun or one.cancelled or one.over
        ]
        self._fail(failure, spoken)

    def _fail(self, failure: ClientError, utterance_ids: list[str]) -> None:
        for utterance_id in utterance_ids:
            self._close_utterance(utterance_id).fail(failure)

    async def _route(self, message: ServerMessage | bytes | None) -> None:
        match message:
            case bytes() if self._speaking is not None:
                await self._speaking.deliver(message)
            case Speaking(utterance_id=utterance_id):
                self._speaking = self._begin(utterance_id)
            case Sentence(utterance_id=utterance_id) if utterance_id in self._pending:
                self._pending[utterance_id].speech.sentences.append(message)
            case AudioChunkMessage(utterance_id=utterance_id) if (
                utterance_id in self._pending and message.data
            ):
                await self._pending[utterance_id].speech.deliver(_decoded(message.data))
            case Complete(utterance_id=utterance_id) if utterance_id in self._pending:
                self._close_utterance(utterance_id).finish(message)
            case ErrorMessage(utterance_id=str(utterance_id)) if utterance_id in self._pending:
                self._close_utterance(utterance_id).fail(failure_of(message))
            case Interrupted():
                await self._silence_complete()

    async def _silence_complete(self) -> None:
        """What the service had sent to its end; of what was pending each has been told its own."""
        for speech in [one for one in self._speeches.values() if one.over and one.audible]:
            await speech.cancel()

    def _begin(self, utterance_id: str) -> Speech | None:
        """A service that speaks is well: whatever comes next, there are as many attempts as ever."""
        self._waits_s = self._reconnects.waits_s()
        pending = self._pending.get(utterance_id)
        if pending is None:
            return None
        pending.speech.begun = True
        return pending.speech

    def _close_utterance(self, utterance_id: str) -> Speech:
        """It is over: nothing is sent for it any more, and no audio is its own."""
        pending = self._pending.pop(utterance_id)
        pending.writer.cancel()
        if self._speaking is pending.speech:
            self._speaking = None
        return pending.speech


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise ConnectionLost("The service sent audio that is not base64.") from None
