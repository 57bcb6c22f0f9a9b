"""One utterance over HTTP, as fast as it is made.

In: a text and how to say it. Out: encoded bytes, and what the utterance counts for. Does not know: how the
bytes are sent, the WebSocket's pacing.
"""

import asyncio
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from makima_tts.api.service import Service
from makima_tts.audio import OutputFormat, SpeechEncoder, open_encoder
from makima_tts.errors import Cancelled, InvalidText, TtsError, TtsUnavailable, UtteranceTimeout
from makima_tts.speech import AudioChunk, SpeechStream, UtteranceRequest
from makima_tts.text import clean, pieces_of, why_silent

_Made = TypeVar("_Made")
_FRAME_S = 0.08
# A twentieth of a millisecond for a frame, where the others take one.
_CHEAP: tuple[OutputFormat, ...] = ("wav", "pcm", "mulaw", "alaw")


def _without_surrogates(text: str) -> str:
    """JSON may smuggle in halves of characters, which no tokenizer takes."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must be text: it holds half of a surrogate pair")
    return text


SpokenText = Annotated[
    str, Field(repr=False, examples=["Good evening. I am listening."]), AfterValidator(_without_surrogates)
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """``voice`` None is the default voice. ``sample_rate_hz`` is one that the format has."""

    text: str = field(repr=False)
    voice: str | None
    language: str
    format: OutputFormat
    sample_rate_hz: int
    seed: int | None
    speed: float = 1.0


class SpokenUtterance:
    """Its audio, and what it counts for."""

    def __init__(self, service: Service, wanted: Wanted) -> None:
        self.id = f"http-{uuid.uuid4().hex}"
        self._service = service
        self._wanted = wanted
        self._began_s = time.monotonic()
        self._ttfa_s: float | None = None
        self._synthesis_s = self._made_s = 0.0
        self.text_chars = 0

    @property
    def audio_frames(self) -> int:
        """How many frames of 80 ms the engine has spoken, a begun one included."""
        return math.ceil(round(self._made_s / _FRAME_S, 6))

    @property
    def _heard_s(self) -> float:
        """How long what was made lasts at the speed asked for."""
        return self._made_s / self._wanted.speed

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
            rtf = self._synthesis_s / self._heard_s if outcome == "complete" and self._heard_s else None
            self._service.metrics.count_utterance(outcome, ttfa_s=self._ttfa_s, rtf=rtf)

    async def _spoken(self) -> AsyncGenerator[bytes, None]:
        speech = await self._open()
        self._service.begin_stream()
        try:
            encoder = await self._work(self._encoder)
            while (chunk := await self._next(speech)) is not None:
                self._count(chunk)
                # Of nothing an encoder would make a header, and that is not the first of the audio.
                if chunk.pcm.size and (data := await self._work(partial(encoder.encode, chunk.pcm))):
                    yield data
            if data := await self._work(encoder.flush):
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
        request = UtteranceRequest(self.id, wanted.language, voice.prompt, wanted.seed)
        speech = self._service.engine.open(request)
        for piece in pieces:
            speech.feed(piece)
        speech.finish()
        return speech

    def _pieces(self) -> list[str]:
        limit = self._service.limits.max_utterance_chars
        self.text_chars = len(clean(self._wanted.text))
        if self.text_chars > limit:
            raise InvalidText(f"The text is too long; send at most {limit} characters.")
        if pieces := pieces_of(self._wanted.text, self._service.limits.text_cleaning):
            return [piece.text for piece in pieces]
        raise InvalidText(why_silent(self._wanted.text))

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

    async def _work(self, encode: Callable[[], _Made]) -> _Made:
        """Compressing would keep everybody else's audio waiting: a worker thread does it."""
        cheap = self._wanted.format in _CHEAP and self._wanted.speed == 1.0
        return encode() if cheap else await asyncio.to_thread(encode)

    def _encoder(self) -> SpeechEncoder:
        wanted, source_rate_hz = self._wanted, self._service.engine.facts.sample_rate_hz
        return open_encoder(wanted.format, source_rate_hz, wanted.sample_rate_hz, speed=wanted.speed)

    def _count(self, chunk: AudioChunk) -> None:
        if self._ttfa_s is None and chunk.pcm.size:
            self._ttfa_s = time.monotonic() - self._began_s
        duration_s = chunk.pcm.size / self._service.engine.facts.sample_rate_hz
        self._made_s += duration_s
        self._synthesis_s += chunk.synthesis_s
        self._service.metrics.audio_s.inc(duration_s / self._wanted.speed)
