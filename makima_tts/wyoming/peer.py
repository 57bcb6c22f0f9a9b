"""One Wyoming client, and its session with the service.

In: its events: Describe, Synthesize, and SynthesizeStart … SynthesizeStop. Out: Info, audio, errors. Does
not know: other clients.

Each has a session of its own, so that none waits for another; the session ends with the client's connection.
After an error the connection is closed: clients without support for the error event would wait for ever.
"""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_read_event, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeTextFormat,
    SynthesizeVoice,
)

from makima_tts import __version__
from makima_tts.client import (
    ClientError,
    Reconnects,
    ServiceError,
    ServiceUnreachable,
    SpeakOptions,
    Speech,
    SpeechClient,
)
from makima_tts.errors import InvalidMessage, ModelLoading, NothingToSay, TtsUnavailable
from makima_tts.protocol import AUTO, Ready, Start, language_tag
from makima_tts.protocol.messages import SILENT_TURN_S

_HTTP_TIMEOUT_S = 5.0
_READY_TIMEOUT_S = 30.0
_MAX_WAITING = 32
_MAX_EVENT_BYTES = 256 * 1024
# What the wyoming package, or its reader, raises for a malformed event.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, EOFError, asyncio.LimitOverrunError)

_Parsed = TypeVar("_Parsed")


# One text to speak, whole or in chunks that are still arriving, and its voice.
_Request = tuple[str | AsyncIterator[str], SynthesizeVoice | None]


class EventReader(asyncio.StreamReader):
    """Bounds an event's payload; the wyoming package waits for any length that an event announces."""

    async def readexactly(self, n: int) -> bytes:
        if n > _MAX_EVENT_BYTES:
            raise asyncio.LimitOverrunError("The event is too large.", 0)
        return await super().readexactly(n)


class Peer:
    """One Wyoming client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service_url: str) -> None:
        self._reader, self._writer = reader, writer
        self._url = service_url
        self._requests: asyncio.Queue[_Request] = asyncio.Queue(_MAX_WAITING)
        # The chunks of a streamed text that has not ended; None is its end.
        self._chunks: asyncio.Queue[str | None] | None = None

    async def serve(self) -> None:
        tasks = [asyncio.create_task(task) for task in (self._receive(), self._speak())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with suppress(ConnectionError):
                await self._report(done.pop().exception())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writer.close()

    async def _report(self, failure: BaseException | None) -> None:
        match failure:
            case None | ConnectionError():
                return
            case ServiceError() | InvalidMessage():
                await self._send(Error(failure.message, failure.code))
            case ClientError():
                await self._send(Error(str(failure), TtsUnavailable.code))
            case TimeoutError():
                await self._send(Error("The service is still loading; try again shortly.", ModelLoading.code))
            case _:
                raise failure

    async def _send(self, event: Eventable) -> None:
        await async_write_event(event.event(), self._writer)

    async def _receive(self) -> None:
        while (event := await self._next_event()) is not None:
            await self._on_event(event)

    async def _next_event(self) -> Event | None:
        try:
            return await async_read_event(self._reader)
        except _MALFORMED:
            raise InvalidMessage("That is no event of the Wyoming protocol.") from None

    async def _on_event(self, event: Event) -> None:
        if Describe.is_type(event.type):
            async with _session(self._url) as client:
                await self._send(await _describe(self._url, client.ready))
        elif Synthesize.is_type(event.type) and self._chunks is None:
            # During a streamed text this event repeats it, for servers without streaming.
            whole = _parsed(Synthesize.from_event, event)
            await self._enqueue((str(whole.text), whole.voice), whole.text_format)
        elif SynthesizeStart.is_type(event.type):
            start = _parsed(SynthesizeStart.from_event, event)
            await self._end_text()
            self._chunks = asyncio.Queue(_MAX_WAITING)
            await self._enqueue((_until_end(self._chunks), start.voice), start.text_format)
        elif SynthesizeChunk.is_type(event.type) and self._chunks is not None:
            await self._chunks.put(str(_parsed(SynthesizeChunk.from_event, event).text))
        elif SynthesizeStop.is_type(event.type):
            await self._end_text()

    async def _end_text(self) -> None:
        """Also of a text without an end of its own: the next one waits for it."""
        if self._chunks is not None:
            await self._chunks.put(None)
            self._chunks = None

    async def _enqueue(self, request: _Request, text_format: str | None) -> None:
        if text_format == SynthesizeTextFormat.SSML:
            raise InvalidMessage("SSML is not spoken here; send plain text.")
        await self._requests.put(request)

    async def _speak(self) -> None:
        request = await self._requests.get()
        async with _session(self._url) as client:
            while True:
                await self._speak_one(client, request)
                request = await self._requests.get()

    async def _speak_one(self, client: SpeechClient, request: _Request) -> None:
        text, voice = request
        try:
            speech = client.speak(text, **_options(voice))
        except ValueError:
            raise InvalidMessage("The voice or language is none that this service knows.") from None
        pcm_format = (speech.audio_format.sample_rate_hz, speech.audio_format.bytes_per_sample, 1)
        audio = _audio_of(speech)
        pcm = await anext(audio, None)
        await self._send(AudioStart(*pcm_format))
        while pcm is not None:
            await self._send(AudioChunk(*pcm_format, pcm))
            pcm = await anext(audio, None)
        await self._send(AudioStop())
        if not isinstance(text, str):
            await self._send(SynthesizeStopped())


def _parsed(parse: Callable[[Event], _Parsed], event: Event) -> _Parsed:
    try:
        return parse(event)
    except _MALFORMED:
        raise InvalidMessage("A field of that event is missing, or not what it should be.") from None


async def _audio_of(speech: Speech) -> AsyncIterator[bytes]:
    """A text without words is a short silence: an error ends the connection, and what is queued on it."""
    try:
        async for chunk in speech:
            yield chunk.pcm
    except ServiceError as failure:
        if failure.reason != NothingToSay.reason:
            raise
        audio = speech.audio_format
        yield bytes(round(SILENT_TURN_S * audio.sample_rate_hz) * audio.bytes_per_sample)


async def _until_end(chunks: "asyncio.Queue[str | None]") -> AsyncIterator[str]:
    while (chunk := await chunks.get()) is not None:
        yield chunk


def _options(voice: SynthesizeVoice | None) -> SpeakOptions:
    if voice is None:
        return {}
    # A name is more specific than a language.
    return {"voice": voice.name} if voice.name else {"language": voice.language or AUTO}


def _session(url: str) -> AbstractAsyncContextManager[SpeechClient]:
    """One reconnect, as the service closes idle sessions. Else the Wyoming client decides what to do."""
    return SpeechClient.connect(
        url, Start(language=AUTO), ready_timeout_s=_READY_TIMEOUT_S, reconnects=Reconnects(attempts=1)
    )


class _Voice(BaseModel):
    """Of ``GET /api/v1/voices``."""

    id: str
    name: str
    available: bool


_VOICES = TypeAdapter(list[_Voice])


async def _describe(url: str, ready: Ready) -> Info:
    """The service's voices and languages. Raises ServiceUnreachable."""
    tags = [language_tag(name) for name in ready.capabilities.languages]
    attribution = Attribution("makima-tts", "")
    voices = [
        TtsVoice(voice.id, attribution, True, voice.name, None, tags)
        for voice in await asyncio.to_thread(_voices, url)
        if voice.available
    ]
    description = f"Streaming speech by {ready.model}"
    return Info(tts=[TtsProgram("makima-tts", attribution, True, description, __version__, voices, True)])


def _voices(url: str) -> list[_Voice]:
    address = urlsplit(url)
    secure = address.scheme == "wss"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(address.hostname or "", address.port, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("GET", address.path.removesuffix("/speak") + "/voices")
        return _VOICES.validate_python(json.loads(connection.getresponse().read())["voices"])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as failure:
        raise ServiceUnreachable("The service did not say which voices it has.") from failure
    finally:
        connection.close()
