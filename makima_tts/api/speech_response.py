"""One utterance as the body of an HTTP answer, streamed while it is generated.

In: a text, the voice and format to speak it in, the form of the body. Out: the answer; metrics of the
utterance. Does not know: routes, JSON of requests, how speech is generated.
"""

import asyncio
import base64
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal, Self

import structlog
from fastapi import Response
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from starlette.types import Receive, Scope, Send

from makima_tts.api.failures import error_response, openai_error_body
from makima_tts.api.service import Service
from makima_tts.errors import Cancelled, InvalidText, NothingToSay, TtsError, TtsUnavailable
from makima_tts.protocol import TimedWord, Timings
from makima_tts.protocol.fields import ClientFields
from makima_tts.protocol.frames import well_formed
from makima_tts.protocol.messages import SILENT_TURN_S
from makima_tts.speaking import AudioOutput, UtteranceStream
from makima_tts.speech import UtteranceRequest
from makima_tts.text import NOTHING_SPOKEN, Piece, clean, nothing_to_say, pieces_within
from makima_tts.timings import WordTimer, timed_words
from makima_tts.voices import InlineClip

# A proxy that buffers a whole body before it passes it on would delay the first audio to the end.
_UNBUFFERED = {"X-Accel-Buffering": "no"}
_log = structlog.get_logger(__name__)


EVENT_STREAM = "text/event-stream"
_FRAME_S = 0.08

SpeakableText = Annotated[
    str, Field(repr=False, examples=["Good evening. I am listening."]), AfterValidator(well_formed)
]


class AudioBody:
    """A body of audio and nothing else, and the defaults of other forms.

    ``keep_alive`` is sent while there is no audio yet; None where the form has no such bytes.
    """

    headers: Mapping[str, str] = {}
    keep_alive: bytes | None = None
    timings: Timings = "none"

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def part(self, audio: bytes, words: Sequence[TimedWord] = ()) -> bytes:
        return audio

    def ending(self, *, text_chars: int, audio_s: float) -> bytes:
        """``audio_s``: at the engine's own speed."""
        return b""

    def failure(self, error: TtsError) -> bytes | None:
        """The end of a body that fails halfway; None leaves it unfinished, which clients notice."""
        return None


class EventBody(AudioBody):
    """Server-sent events: ``speech.audio.delta`` with audio, then ``speech.audio.done``, or ``error``.

    ``timings`` adds ``speech.audio.words``, with words before the audio that speaks them.

    An event is named by ``type`` in its data and by nothing else, as OpenAI's are: a client that reads only
    the data sees every one of them.
    """

    headers: Mapping[str, str] = {"Cache-Control": "no-cache, no-transform"}
    keep_alive = b": speaking in a moment\n\n"

    def __init__(self, timings: Timings) -> None:
        super().__init__(EVENT_STREAM)
        self.timings = timings

    def part(self, audio: bytes, words: Sequence[TimedWord] = ()) -> bytes:
        told = [word.model_dump(exclude_none=True) for word in words]
        return b"".join(
            (
                _event("speech.audio.words", words=told) if told else b"",
                _event("speech.audio.delta", audio=base64.b64encode(audio).decode()) if audio else b"",
            )
        )

    def ending(self, *, text_chars: int, audio_s: float) -> bytes:
        """Characters, and frames of 80 ms: nothing else of an utterance is counted alike by every engine."""
        frames = math.ceil(round(audio_s / _FRAME_S, 6))
        usage = {"input_tokens": text_chars, "output_tokens": frames, "total_tokens": text_chars + frames}
        return _event("speech.audio.done", usage=usage)

    def failure(self, error: TtsError) -> bytes:
        return _event("error", **openai_error_body(error.http_status, error.code, error.message).model_dump())


def _event(type_: str, **fields: object) -> bytes:
    return f"data: {json.dumps({'type': type_, **fields}, separators=(',', ':'))}\n\n".encode()


class StreamOptions(ClientFields):
    """How a request wants its speech streamed. Names of fields are as here, or as a subclass says."""

    model_config = ConfigDict(alias_generator=None)

    stream_format: Literal["audio", "sse"] = "audio"
    timings: Timings = Field("none", description="word: events say when each word is spoken; with sse only")

    @model_validator(mode="after")
    def _timings_have_a_place(self) -> Self:
        if self.timings == "word" and self.stream_format != "sse":
            raise ValueError("timings need the stream format sse: a body of audio has no place for them")
        return self

    def body(self, media_type: str) -> AudioBody:
        return EventBody(self.timings) if self.stream_format == "sse" else AudioBody(media_type)


class SpeechResponse(Response):
    """Before the first byte, an error has its status; after it, the form of the body says how it ends.

    ``voice`` None is the default voice. ``silent_turns``: a text without words is a short silence, not a
    failure. The engine is freed when the body ends, fails, or the client
    disconnects, even before the first byte.
    """

    def __init__(
        self,
        service: Service,
        text: str,
        output: AudioOutput,
        form: AudioBody,
        *,
        voice: str | InlineClip | None,
        language: str,
        seed: int | None,
        silent_turns: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._service = service
        self._text = text
        self._language = language
        self._speed = output.speed
        self._form = form
        self._silent_turns = silent_turns
        self._id = f"http-{uuid.uuid4().hex}"
        self._stream = UtteranceStream(
            service.engine,
            UtteranceRequest(self._id, language, seed=seed),
            output,
            service.metrics,
            find_voice=partial(service.find_voice, voice),
            wait_for_room=service.line.open,
            chunk_timeout_s=service.limits.utterance_timeout_ms / 1000,
            words=WordTimer(language, output.speed) if form.timings == "word" else None,
            aligner=service.aligner,
        )
        self._pieces: Sequence[Piece] = ()
        # Writers take turns, and write whole parts.
        self._lock = asyncio.Lock()
        self._begun = False
        self._wrote_s = time.monotonic()
        named = {**_UNBUFFERED, "X-Request-Id": self._id, **form.headers, **(headers or {})}
        super().__init__(headers=named, media_type=form.media_type)
        del self.headers["content-length"]  # it is not known yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # On every log line of the request: a client that has the answer can ask about it.
        with structlog.contextvars.bound_contextvars(request_id=self._id):
            # One group, none within another: a cancel that passed through one would be kept, and with it
            # every frame on its way, until the garbage collector runs (Python before 3.13).
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(self._keep_alive(send))
                answering = tasks.create_task(self._answer(scope, receive, send, waiting))
                leaving = tasks.create_task(_disconnect(receive))
                answering.add_done_callback(lambda _: (waiting.cancel(), leaving.cancel()))
                leaving.add_done_callback(lambda _: answering.cancel())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, waiting: asyncio.Task[None]) -> None:
        error = await self._speak(send)
        waiting.cancel()
        if error is None:
            text_chars, audio_s = len(clean(self._text)), self._stream.audio_s * self._speed
            await self._write(send, self._form.ending(text_chars=text_chars, audio_s=audio_s), more=False)
        elif not self._begun:
            if error.logged:
                _log.warning("utterance_failed", code=error.code)
            response = error_response(error, scope)
            response.headers["X-Request-Id"] = self._id
            await response(scope, receive, send)
        else:  # too late for a status
            _log.warning("stream_broke_off", code=error.code)
            if ending := self._form.failure(error):
                await self._write(send, ending, more=False)

    async def _speak(self, send: Send) -> TtsError | None:
        stream, outcome = self._stream, Cancelled.code
        try:
            await self._write_speech(send)
            outcome = "complete"
        except TtsError as error:
            outcome = error.code
            return error
        finally:
            rtf = stream.synthesis_s / stream.audio_s if outcome == "complete" and stream.ttfa_s else None
            self._service.metrics.count_utterance(outcome, ttfa_s=stream.ttfa_s, rtf=rtf)
        return None

    async def _write_speech(self, send: Send) -> None:
        try:
            self._feed()
            await self._write_audio(send)
        except NothingToSay:
            if not self._silent_turns or self._stream.ttfa_s is not None:
                raise
            await self._write(send, self._form.part(await self._stream.silence(SILENT_TURN_S)))

    def _feed(self) -> None:
        """Raises what refuses the utterance before any voice is loaded for it."""
        if self._service.draining_until_s is not None:
            raise TtsUnavailable("The service is shutting down; try again in a moment.", retry_after_s=5.0)
        self._service.require_engine()
        limits = self._service.limits
        pieces = pieces_within(
            limits.max_utterance_chars, self._text.rstrip(), limits.text_cleaning, self._language
        )
        if pieces is None:
            raise InvalidText(f"The text is too long; send at most {limits.max_utterance_chars} characters.")
        if not pieces:
            raise nothing_to_say(self._text)
        self._pieces = pieces
        for piece in pieces:
            self._stream.feed(piece.text)
        self._stream.finish()

    async def _write_audio(self, send: Send) -> None:
        with self._service.http_stream():
            async with aclosing(self._stream.chunks()) as chunks:
                async for chunk in chunks:
                    words = timed_words(self._text, self._pieces, chunk.words)
                    if part := self._form.part(chunk.data, words):
                        await self._write(send, part)
        if self._stream.ttfa_s is None:
            raise NothingToSay(NOTHING_SPOKEN)

    async def _write(self, send: Send, data: bytes, *, more: bool = True) -> None:
        """The answer begins with its first bytes."""
        async with self._lock:
            if not self._begun:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                self._begun = True
            await send({"type": "http.response.body", "body": data, "more_body": more})
            self._wrote_s = time.monotonic()

    async def _keep_alive(self, send: Send) -> None:
        """Never silent for longer than the service allows; returns at once when there is nothing to send."""
        while (data := self._form.keep_alive) is not None:
            left_s = self._wrote_s + self._service.keep_alive_s - time.monotonic()
            if left_s > 0:
                await asyncio.sleep(left_s)
            else:
                await self._write(send, data)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
