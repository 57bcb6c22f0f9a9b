"""Speech over plain HTTP, streamed as it is made; and the interrupt of a contract.

In: JSON. Out: WAV or PCM bytes, as fast as they are made. Does not know: the WebSocket's pacing.
"""

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.types import Receive, Scope, Send

from makima_tts.api.failures import ErrorBody
from makima_tts.api.service import Service
from makima_tts.audio import PcmEncoder
from makima_tts.errors import InvalidText, TtsError, TtsUnavailable
from makima_tts.protocol.client_messages import MAX_SEED, Language, SampleRate, VoiceId
from makima_tts.speech import SpeechStream, UtteranceRequest
from makima_tts.text import Segmenter, clean, is_speakable

_log = structlog.get_logger(__name__)

_UNKNOWN_LENGTH = 0xFFFFFFFF
_BYTES_PER_SAMPLE = 2
_MEDIA_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm"}


class TtsRequest(BaseModel):
    """``text`` is bounded by TTS_MAX_UTTERANCE_CHARS code points."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    text: str = Field(repr=False, examples=["Good evening. I am listening."])
    voice: VoiceId | None = None
    language: Language = "English"
    format: Literal["wav", "pcm"] = "wav"
    sample_rate: SampleRate = 24000
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None


class Interrupted(BaseModel):
    """How many utterances were silenced."""

    interrupted: int


def tts_router(service: Service) -> APIRouter:
    """``/api/v1/tts`` and ``/api/v1/contracts/{contractId}/interrupt``."""
    router = APIRouter(prefix="/api/v1")

    @router.post(
        "/tts",
        tags=["speech"],
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {media: {} for media in _MEDIA_TYPES.values()},
                "description": "Mono 16-bit audio",
            },
            400: {"model": ErrorBody},
            404: {"model": ErrorBody},
            429: {"model": ErrorBody},
            503: {"model": ErrorBody},
        },
    )
    async def tts(wanted: TtsRequest) -> StreamingResponse:
        """Errors before the first byte have a status; after it, the stream breaks off."""
        audio = _Audio(service, wanted)
        first = await audio.open()
        return _AudioResponse(audio, first, media_type=_MEDIA_TYPES[wanted.format])

    @router.post("/contracts/{contract_id}/interrupt", tags=["speech"])
    async def interrupt(contract_id: Annotated[str, Path(max_length=256)]) -> Interrupted:
        """Silence what every session of this contract is speaking and has queued."""
        return Interrupted(interrupted=service.contracts.interrupt(contract_id))

    return router


class _Audio:
    """One utterance over HTTP; whoever opened it closes it."""

    def __init__(self, service: Service, wanted: TtsRequest) -> None:
        self._service = service
        self._wanted = wanted
        self._encoder = PcmEncoder(service.engine.facts.sample_rate_hz, wanted.sample_rate, "pcm16")

    async def open(self) -> bytes:
        """The first audio. Raises what the engine fails with, while there is a status to say it."""
        if self._service.draining_until_s is not None:
            raise TtsUnavailable("The service is shutting down; try again in a moment.", retry_after_s=5.0)
        self._service.life.require_ready()
        pieces = self._pieces()
        voices = self._service.voices
        wanted = self._wanted
        voice = await (voices.resolve(None) if wanted.voice is None else voices.get(wanted.voice))
        request = UtteranceRequest(f"http-{uuid.uuid4().hex}", wanted.language, voice.prompt, wanted.seed)
        self._speech = self._service.engine.open(request)
        self._service.begin_stream()
        try:
            _feed(self._speech, pieces)
            return self._encoder.encode((await anext(self._speech)).pcm)
        except StopAsyncIteration:
            self.close()
            raise InvalidText("This engine found nothing to speak in this text; send words.") from None
        except BaseException:
            self.close()
            raise

    async def stream(self, first: bytes) -> AsyncIterator[bytes]:
        if self._wanted.format == "wav":
            yield _wav_header(self._wanted.sample_rate)
        yield first
        async for chunk in self._speech:
            yield self._encoder.encode(chunk.pcm)
            # With nothing to pace it, a quick engine would hold the loop, and a disconnect go unnoticed.
            await asyncio.sleep(0)
        yield self._encoder.flush()

    def _pieces(self) -> list[str]:
        text, limit = clean(self._wanted.text), self._service.limits.max_utterance_chars
        if not is_speakable(text):
            raise InvalidText("There is nothing to speak in this text; send words or numbers.")
        if len(text) > limit:
            raise InvalidText(f"The text is too long; send at most {limit} characters.")
        segmenter = Segmenter()
        return [piece.text for piece in (*segmenter.feed(text), *segmenter.finish())]

    def close(self) -> None:
        """Frees the engine. Once."""
        self._speech.cancel()
        self._service.end_stream()


class _AudioResponse(StreamingResponse):
    """Frees the engine when the response ends for whatever reason, even before its first byte."""

    def __init__(self, audio: _Audio, first: bytes, *, media_type: str) -> None:
        super().__init__(audio.stream(first), media_type=media_type)
        self._audio = audio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except TtsError as error:
            # Too late for a status: the body is left unfinished, which no client takes for the whole.
            _log.warning("stream_broke_off", code=error.code)
        finally:
            self._audio.close()


def _feed(speech: SpeechStream, pieces: list[str]) -> None:
    for piece in pieces:
        speech.feed(piece)
    speech.finish()


def _wav_header(sample_rate_hz: int) -> bytes:
    """RIFF/WAVE, mono PCM16, of a length that nobody knows yet (all ones, as players expect of a stream)."""
    byte_rate = sample_rate_hz * _BYTES_PER_SAMPLE
    shape = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, byte_rate, _BYTES_PER_SAMPLE, 16)
    unknown = struct.pack("<I", _UNKNOWN_LENGTH)
    return b"RIFF" + unknown + b"WAVEfmt " + shape + b"data" + unknown
