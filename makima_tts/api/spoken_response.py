"""One utterance as the body of an HTTP answer, streamed as it is made, as fast as it is made.

In: a text and how to say it. Out: WAV or PCM bytes. Does not know: routes, the WebSocket's pacing.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from makima_tts.api.failures import error_response
from makima_tts.api.service import Service
from makima_tts.audio import MEDIA_TYPES, OutputFormat, open_encoder
from makima_tts.errors import Cancelled, InvalidText, TtsError, TtsUnavailable, UtteranceTimeout
from makima_tts.speech import AudioChunk, SpeechStream, UtteranceRequest
from makima_tts.text import clean, pieces_of

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``voice`` None is the default voice."""

    text: str = field(repr=False)
    voice: str | None
    language: str
    format: OutputFormat
    sample_rate_hz: int
    seed: int | None


class SpokenResponse(Response):
    """Until the first byte an error has its status; after it, the body is left unfinished.

    The engine is freed when the body ends, fails, or the client goes away, even before the first byte.
    """

    def __init__(self, service: Service, wanted: Wanted) -> None:
        super().__init__(media_type=MEDIA_TYPES[wanted.format])
        del self.headers["content-length"]  # nobody knows it yet
        self._utterance = _Utterance(service, wanted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self._answer(scope, receive, send))
            leaving = tasks.create_task(_disconnect(receive))
            answering.add_done_callback(lambda _: leaving.cancel())
            leaving.add_done_callback(lambda _: answering.cancel())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with aclosing(self._utterance.audio()) as audio:
                async for data in audio:
                    if not started:
                        await send(
                            {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                        )
                        started = True
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except TtsError as error:
            if started:  # too late for a status; no client takes an unfinished body for the whole
                _log.warning("stream_broke_off", code=error.code)
            else:
                await error_response(error)(scope, receive, send)


class _Utterance:
    """Its audio, and what it counts for."""

    def __init__(self, service: Service, wanted: Wanted) -> None:
        self._service = service
        self._wanted = wanted
        self._encoder = open_encoder(
            wanted.format, service.engine.facts.sample_rate_hz, wanted.sample_rate_hz
        )
        self._began_s = time.monotonic()
        self._ttfa_s: float | None = None
        self._synthesis_s = self._audio_s = 0.0

    async def audio(self) -> AsyncGenerator[bytes, None]:
        """Encoded chunks, none of them empty. Raises TtsError."""
        outcome = Cancelled.code
        try:
            async with aclosing(self._spoken()) as spoken:
                async for data in spoken:
                    yield data
            outcome = "complete"
        except TtsError as error:
            outcome = error.code
            raise
        finally:
            rtf = self._synthesis_s / self._audio_s if outcome == "complete" and self._audio_s else None
            self._service.metrics.count_utterance(outcome, ttfa_s=self._ttfa_s, rtf=rtf)

    async def _spoken(self) -> AsyncGenerator[bytes, None]:
        speech = await self._open()
        self._service.begin_stream()
        try:
            while (chunk := await self._next(speech)) is not None:
                if data := self._encode(chunk):
                    yield data
            if data := self._encoder.flush():
                yield data
        finally:
            speech.cancel()
            self._service.end_stream()

    async def _open(self) -> SpeechStream:
        wanted, voices = self._wanted, self._service.voices
        if self._service.draining_until_s is not None:
            raise TtsUnavailable("The service is shutting down; try again in a moment.", retry_after_s=5.0)
        self._service.life.require_ready()
        pieces = self._pieces()
        voice = await (voices.resolve(None) if wanted.voice is None else voices.get(wanted.voice))
        request = UtteranceRequest(f"http-{uuid.uuid4().hex}", wanted.language, voice.prompt, wanted.seed)
        speech = self._service.engine.open(request)
        for piece in pieces:
            speech.feed(piece)
        speech.finish()
        return speech

    def _pieces(self) -> list[str]:
        limit = self._service.limits.max_utterance_chars
        if len(clean(self._wanted.text)) > limit:
            raise InvalidText(f"The text is too long; send at most {limit} characters.")
        if pieces := pieces_of(self._wanted.text):
            return [piece.text for piece in pieces]
        raise InvalidText("There is nothing to speak in this text; send words or numbers.")

    async def _next(self, speech: SpeechStream) -> AudioChunk | None:
        """None at the end."""
        try:
            async with asyncio.timeout(self._service.limits.utterance_timeout_ms / 1000):
                return await anext(speech)
        except TimeoutError:
            raise UtteranceTimeout("No audio came in time; try again, or speak less at once.") from None
        except StopAsyncIteration:
            if self._ttfa_s is None:
                raise InvalidText("This engine found nothing to speak in this text; send words.") from None
            return None

    def _encode(self, chunk: AudioChunk) -> bytes:
        if self._ttfa_s is None and chunk.pcm.size:
            self._ttfa_s = time.monotonic() - self._began_s
        duration_s = chunk.pcm.size / self._service.engine.facts.sample_rate_hz
        self._audio_s += duration_s
        self._synthesis_s += chunk.synthesis_s
        self._service.metrics.audio_s.inc(duration_s)
        return self._encoder.encode(chunk.pcm)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
