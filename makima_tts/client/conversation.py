"""A session with a service, over one connection after another.

In: texts. Out: one :class:`Speech` for each. Does not know: what happens to the audio, how a connection is
opened.

One task reads: it routes every frame to its utterance, and opens another connection when there is text to
send and none is open. A second task sends. Each text has its own task that writes it, because it may still be
generated. All of them end with the client.
"""

import asyncio
import base64
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TypedDict, Unpack
from weakref import WeakValueDictionary

from makima_tts.client.connection import (
    CLOSE_TIMEOUT_S,
    Connection,
    OnLoading,
    Reconnects,
)
from makima_tts.client.failures import (
    ClientError,
    ConnectionLost,
    ServiceUnreachable,
    cancelled_here,
    failure_of,
)
from makima_tts.client.speech import Speech
from makima_tts.client.writing import OutgoingText, Text, text_chunks
from makima_tts.errors import NothingToSay
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
    Timings,
    Words,
    serialize,
)


class SpeakOptions(TypedDict, total=False):
    """Options of one utterance; the session's apply where one is missing."""

    utterance_id: str
    voice: str
    language: str
    priority: PriorityName
    seed: int
    timings: Timings


class SpeechClient:
    """A session with a service, on one event loop; created by :meth:`connect`.

    It outlives its connection. An utterance that was being spoken when that broke fails with ConnectionLost
    and is never repeated; those that the service had not begun are sent again over the next connection.
    """

    def __init__(
        self, first: Connection, reconnect: Callable[[], Awaitable[Connection]], reconnects: Reconnects
    ) -> None:
        self.ready: Ready = first.ready
        self.started: Started = first.started
        self._reconnect = reconnect
        self._reconnects = reconnects
        self._connection: Connection | None = first
        # Utterances without their terminal message, in the order of ``speak``.
        self._pending: dict[str, Speech] = {}
        # Also finished ones whose audio may still be played, as long as the caller holds them.
        self._speeches: WeakValueDictionary[str, Speech] = WeakValueDictionary()
        self._speaking: Speech | None = None
        self._ids, self._resumed_ids = itertools.count(1), itertools.count(1)
        self._ended: ClientError | None = None
        self._written = asyncio.Event()
        self._added = asyncio.Event()
        self._waits_s = reconnects.waits_s()
        self._running = asyncio.create_task(self._run(first))

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

        Waits until the service is ready; ``on_loading`` gets its progress. Leaving the context silences
        everything. Raises ServiceUnreachable, ServiceError, ConnectionLost, TimeoutError: the first
        connection is tried once.
        """
        open_one = partial(Connection.open, url, start or Start(), on_loading, ready_timeout_s)
        client = cls(await open_one(), open_one, reconnects)
        try:
            yield client
        finally:
            await client.close()

    @property
    def audio_format(self) -> AudioFormat:
        """The format of this session's audio."""
        return AudioFormat(self.started.sample_rate, self.started.encoding)

    def speak(self, text: Text, **options: Unpack[SpeakOptions]) -> Speech:
        """Queue ``text``; iterate, save or play the result. Sending starts at once.

        ``text`` is whole (of any length that the service accepts for an utterance), or an iterable, async or
        not, that is still being written; a blocking one is read in a thread. Raises ValueError for an option
        that the protocol does not allow, or an ``utterance_id`` in use.
        """
        template = Speak.model_validate({"text": "", "utterance_id": f"u{next(self._ids)}", **options})
        utterance_id = str(template.utterance_id)
        if utterance_id in self._pending:
            raise ValueError("This utterance_id is in use; one names one utterance per session.")
        speech = Speech(utterance_id, OutgoingText(template), self.audio_format, self._cancel)
        if self._ended is not None:
            speech.fail(self._ended)
            return speech
        speech.writer = asyncio.create_task(self._write(speech, text))
        self._pending[utterance_id] = self._speeches[utterance_id] = speech
        self._added.set()
        return speech

    def flush(self, utterance_id: str) -> None:
        """Have the partial text of an utterance spoken now, up to its end."""
        if utterance_id in self._pending:
            self._pending[utterance_id].outgoing.flush()
            self._written.set()

    async def interrupt(self, played_ms: float | None = None) -> None:
        """Silence every utterance of this session, queued ones too.

        ``played_ms``: how much was played of the current one; a player of this package knows it.
        """
        for speech in [one for one in self._speeches.values() if one.audible]:
            await speech.cancel(played_ms if speech.begun else None)
            played_ms = None if speech.begun else played_ms

    async def stop(self, reason: str | None = None) -> None:
        """End the session regularly; pending utterances raise UtteranceCancelled."""
        self._ended = ConnectionLost("The session was stopped by this side.")
        if self._connection is not None:
            await self._connection.send(serialize(Stop(reason=reason)))
            await asyncio.wait({self._running}, timeout=CLOSE_TIMEOUT_S)
        await self.close()

    async def close(self) -> None:
        """Close the connection and end all utterances. Takes at most two seconds; idempotent."""
        self._ended = self._ended or ConnectionLost("The connection was closed by this side.")
        if self._connection is not None:
            await self._connection.close()
        writers = [speech.writer for speech in self._pending.values() if speech.writer is not None]
        tasks = {self._running, *writers}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._fail_all(self._ended)

    # Sending

    async def _write(self, speech: Speech, text: Text) -> None:
        """Writes the text; if the caller's iterable fails, its utterance fails too."""
        try:
            await self._write_chunks(speech, text)
        except Exception as failure:
            speech.fail(failure)
            await self._cancel(speech.utterance_id, None)

    async def _write_chunks(self, speech: Speech, text: Text) -> None:
        max_chars = self.ready.limits.max_text_chars
        if isinstance(text, str) and len(text) <= max_chars:
            await self._write_one(speech, text, final=True)
            return
        async with aclosing(text_chunks(text, max_chars)) as chunks:
            async for chunk in chunks:
                await self._write_one(speech, chunk, final=False)
        await self._write_one(speech, "", final=True)

    async def _write_one(self, speech: Speech, text: str, *, final: bool) -> None:
        speech.outgoing.write(text, final=final)
        self._written.set()
        await speech.outgoing.until_sent()

    async def _send(self, connection: Connection) -> None:
        """The only task that sends texts, so that they arrive in the order of ``speak``."""
        for speech in self._pending.values():
            speech.outgoing.rewind()
        while True:
            self._written.clear()
            for speech in list(self._pending.values()):
                await self._send_written(connection, speech)
            await self._written.wait()

    async def _send_written(self, connection: Connection, speech: Speech) -> None:
        while not speech.cancelled and (frame := speech.outgoing.take()):
            speech.sent_s = speech.sent_s or time.monotonic()
            await connection.send(frame)

    async def _cancel(self, utterance_id: str, played_ms: int | None) -> None:
        if self._connection is not None and self._pending[utterance_id].outgoing.is_sent:
            await self._connection.send(serialize(Cancel(utterance_id=utterance_id, played_ms=played_ms)))
        else:
            message = "The utterance was cancelled before any of it was sent."
            self._close_utterance(utterance_id).fail(cancelled_here(utterance_id, message, played_ms))

    # Receiving

    async def _run(self, connection: Connection) -> None:
        while self._ended is None:
            failure = await self._receive_until_closed(connection)
            self._fail_interrupted(failure)
            if self._ended is None:
                connection = await self._next_connection(failure)

    async def _receive_until_closed(self, connection: Connection) -> ClientError:
        """Returns the reason of the end."""
        self._connection, self.ready, self.started = connection, connection.ready, connection.started
        sender = asyncio.create_task(self._send(connection))
        try:
            while True:
                await self._route(await connection.receive())
        except ClientError as failure:
            return failure
        finally:
            self._connection = None
            sender.cancel()
            await connection.close()

    async def _next_connection(self, failure: ClientError) -> Connection:
        """Another connection, once an utterance needs one; utterances fail when all attempts have failed."""
        while True:
            while not self._pending:
                self._added.clear()
                await self._added.wait()
            for wait_s in self._waits_s:
                await asyncio.sleep(max(wait_s, failure.retry_after_s or 0.0))
                try:
                    return await self._reconnect()
                except ClientError as again:
                    failure = again
                except TimeoutError:
                    failure = ServiceUnreachable("The service was not ready to speak in time.")
                if not failure.recoverable:
                    break
            self._fail_all(failure)
            self._waits_s = self._reconnects.waits_s()

    def _fail_interrupted(self, failure: ClientError) -> None:
        """Ends utterances that had begun; all of them if a reconnect cannot help."""
        self._speaking = None
        for speech in list(self._pending.values()):
            if not failure.recoverable or speech.begun or speech.cancelled or speech.over:
                self._close_utterance(speech.utterance_id).fail(failure)

    def _fail_all(self, failure: ClientError) -> None:
        for utterance_id in list(self._pending):
            self._close_utterance(utterance_id).fail(failure)

    async def _route(self, message: ServerMessage | bytes | None) -> None:
        match message:
            case bytes() if self._speaking is not None:
                await self._speaking.deliver(message)
            case Speaking(utterance_id=utterance_id):
                self._begin(utterance_id)
            case Sentence(utterance_id=name) | Words(utterance_id=name) if name in self._pending:
                self._pending[name].describe(message)
            case AudioChunkMessage(utterance_id=utterance_id) if (
                utterance_id in self._pending and message.data
            ):
                await self._pending[utterance_id].deliver(_decoded(message.data))
            case Complete(utterance_id=str(name)) | ErrorMessage(utterance_id=str(name)) if (
                name in self._pending
            ):
                self._end_utterance(name, message)
            case Interrupted():
                await self._silence_finished()

    async def _silence_finished(self) -> None:
        """Utterances that the service had sent completely; pending ones get messages of their own."""
        for speech in [one for one in self._speeches.values() if one.over and one.audible]:
            await speech.cancel()

    def _begin(self, utterance_id: str) -> None:
        """A service that speaks works again: the next reconnect starts with all its attempts."""
        self._waits_s = self._reconnects.waits_s()
        self._speaking = self._pending.get(utterance_id)
        if self._speaking is not None:
            self._speaking.begun = True

    def _end_utterance(self, utterance_id: str, end: Complete | ErrorMessage) -> None:
        """If it ends before its text, the rest of the text is another utterance: see ``Speech.resume``."""
        speech, following = self._pending[utterance_id], f"resumed-{next(self._resumed_ids)}"
        may_resume = isinstance(end, Complete) or end.reason == NothingToSay.reason
        if may_resume and speech.resume(end if isinstance(end, Complete) else None, following):
            del self._pending[utterance_id]
            self._pending[following] = self._speeches[following] = speech
            self._written.set()
        elif isinstance(end, Complete):
            self._close_utterance(utterance_id).finish(end)
        else:
            self._close_utterance(utterance_id).fail(failure_of(end))

    def _close_utterance(self, utterance_id: str) -> Speech:
        """Nothing is sent for it any more, and no later audio belongs to it."""
        speech = self._pending.pop(utterance_id)
        if speech.writer is not None:
            speech.writer.cancel()
        if self._speaking is speech:
            self._speaking = None
        return speech


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise ConnectionLost("The service sent audio that is not base64.") from None
