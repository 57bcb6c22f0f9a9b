"""One Wyoming client, and what it has spoken.

In: its events: Describe, Synthesize, and SynthesizeStart … SynthesizeStop. Out: Info, audio, errors. Does
not know: other clients.

It has a session of its own with the service, so that it waits for nobody; when it goes away the session ends,
which frees its place. After an error the connection is closed: clients that know no error event would wait
for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.info import Describe
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeTextFormat,
    SynthesizeVoice,
)

from makima_tts.client import (
    ClientError,
    Reconnects,
    ServiceError,
    SpeakOptions,
    SpeechClient,
)
from makima_tts.errors import InvalidMessage, ModelLoading, TtsUnavailable
from makima_tts.protocol import AUTO, Start
from makima_tts.wyoming.program import describe

_READY_TIMEOUT_S = 30.0
_MAX_WAITING = 32
_MAX_EVENT_BYTES = 256 * 1024
# What the wyoming package, or its reader, raises for an event that is none.
_NONSENSE = (ValueError, LookupError, TypeError, AttributeError, EOFError, asyncio.LimitOverrunError)

_Asked = TypeVar("_Asked")


class NotUnderstood(Exception):
    """An event that cannot be meant; the message says what can."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One text to speak, whole, or growing until its last part, which is None."""

    text: str | AsyncIterator[str] = field(repr=False)
    voice: SynthesizeVoice | None
    streams: bool = False


class EventReader(asyncio.StreamReader):
    """The wyoming package would wait for as many bytes as an event says that it has."""

    async def readexactly(self, n: int) -> bytes:
        if n > _MAX_EVENT_BYTES:
            raise asyncio.LimitOverrunError("An event is larger than any that can be meant.", 0)
        return await super().readexactly(n)


class Peer:
    """One Wyoming client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service_url: str) -> None:
        self._reader, self._writer = reader, writer
        self._url = service_url
        self._wanted: asyncio.Queue[_Wanted] = asyncio.Queue(_MAX_WAITING)
        self._growing: asyncio.Queue[str | None] | None = None

    async def serve(self) -> None:
        """Until it leaves, or there was an error."""
        parts = [asyncio.create_task(part) for part in (self._listen(), self._speak())]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            with suppress(ConnectionError):
                await self._explain(done.pop().exception())
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            self._writer.close()

    async def _explain(self, failure: BaseException | None) -> None:
        match failure:
            case None | ConnectionError():
                return
            case ServiceError():
                await self._send(Error(failure.message, failure.code))
            case ClientError():
                await self._send(Error(str(failure), TtsUnavailable.code))
            case TimeoutError():
                await self._send(Error("The service is still loading; try again shortly.", ModelLoading.code))
            case NotUnderstood():
                await self._send(Error(str(failure), InvalidMessage.code))
            case _:
                raise failure

    async def _send(self, event: Eventable) -> None:
        await async_write_event(event.event(), self._writer)

    # What it says

    async def _listen(self) -> None:
        while (event := await self._next_event()) is not None:
            await self._hear(event)

    async def _next_event(self) -> Event | None:
        try:
            return await async_read_event(self._reader)
        except _NONSENSE:
            raise NotUnderstood("That is no event of the Wyoming protocol.") from None

    async def _hear(self, event: Event) -> None:
        if Describe.is_type(event.type):
            async with _session(self._url) as client:
                await self._send(await describe(self._url, client.ready))
        elif Synthesize.is_type(event.type) and self._growing is None:
            # While a text grows, this event repeats it, for servers that take none that grows.
            asked = _read(Synthesize.from_event, event)
            await self._queue(_Wanted(_whole(asked.text), asked.voice), asked.text_format)
        elif SynthesizeStart.is_type(event.type):
            start = _read(SynthesizeStart.from_event, event)
            self._growing = asyncio.Queue(_MAX_WAITING)
            await self._queue(_Wanted(_parts_of(self._growing), start.voice, True), start.text_format)
        elif SynthesizeChunk.is_type(event.type) and self._growing is not None:
            await self._growing.put(_whole(_read(SynthesizeChunk.from_event, event).text))
        elif SynthesizeStop.is_type(event.type) and self._growing is not None:
            await self._growing.put(None)
            self._growing = None

    async def _queue(self, wanted: _Wanted, text_format: str | None) -> None:
        if text_format == SynthesizeTextFormat.SSML:
            raise NotUnderstood("SSML is not spoken here; send plain text.")
        await self._wanted.put(wanted)

    # What it hears

    async def _speak(self) -> None:
        wanted = await self._wanted.get()
        async with _session(self._url) as client:
            while True:
                await self._speak_one(client, wanted)
                wanted = await self._wanted.get()

    async def _speak_one(self, client: SpeechClient, wanted: _Wanted) -> None:
        try:
            speech = client.speak(wanted.text, **_options(wanted.voice))
        except ValueError:
            raise NotUnderstood("The voice or language is none that this service knows.") from None
        shape = (speech.audio_format.sample_rate_hz, speech.audio_format.bytes_per_sample, 1)
        chunk = await anext(speech, None)
        await self._send(AudioStart(*shape))
        while chunk is not None:
            await self._send(AudioChunk(*shape, chunk.pcm))
            chunk = await anext(speech, None)
        await self._send(AudioStop())
        if wanted.streams:
            await self._send(SynthesizeStopped())


def _read(parse: Callable[[Event], _Asked], event: Event) -> _Asked:
    try:
        return parse(event)
    except _NONSENSE:
        raise NotUnderstood("A field of that event is missing, or not what it should be.") from None


def _whole(text: object) -> str:
    """JSON may smuggle in halves of characters, which cannot be sent on."""
    try:
        return str(text).encode().decode()
    except UnicodeEncodeError:
        raise NotUnderstood("The text holds half of a surrogate pair.") from None


async def _parts_of(growing: "asyncio.Queue[str | None]") -> AsyncIterator[str]:
    while (part := await growing.get()) is not None:
        yield part


def _options(voice: SynthesizeVoice | None) -> SpeakOptions:
    if voice is None:
        return {}
    # A name says more than a language.
    return {"voice": voice.name} if voice.name else {"language": voice.language or AUTO}


def _session(url: str) -> AbstractAsyncContextManager[SpeechClient]:
    """Its loss is told; who asked decides whether to ask again."""
    return SpeechClient.connect(
        url, Start(language=AUTO), ready_timeout_s=_READY_TIMEOUT_S, reconnects=Reconnects(attempts=0)
    )
