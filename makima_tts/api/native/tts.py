"""Speech over plain HTTP, and the interrupt of a contract.

In: JSON. Out: audio. Does not know: how it is made.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import Field

from makima_tts.api.failures import failures
from makima_tts.api.service import Service
from makima_tts.api.spoken_response import SpokenResponse
from makima_tts.api.spoken_utterance import SpokenText, Wanted
from makima_tts.audio import MEDIA_TYPES, OutputFormat, rate_of
from makima_tts.protocol.client_messages import MAX_SEED, ClientFields, Language, SampleRate, Speed, VoiceId


class TtsRequest(ClientFields):
    """``text`` is bounded by TTS_MAX_UTTERANCE_CHARS code points."""

    text: SpokenText
    voice: VoiceId | None = None
    language: Language = "English"
    format: OutputFormat = "wav"
    sample_rate: SampleRate | None = Field(None, description="24000; 8000 with mulaw and alaw")
    speed: Speed = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None


class Interrupted(ClientFields):
    """How many utterances were silenced."""

    interrupted: int


def tts_router(service: Service) -> APIRouter:
    """``/api/v1/tts`` and ``/api/v1/contracts/{contractId}/interrupt``."""
    router = APIRouter(prefix="/api/v1", tags=["speech"])
    audio: dict[str, object] = {media: {} for media in MEDIA_TYPES.values()}
    spoken: dict[int | str, dict[str, Any]] = {200: {"content": audio, "description": "Mono audio"}}

    @router.post(
        "/tts", response_class=Response, responses=spoken | failures(400, 404, 408, 413, 429, 500, 503)
    )
    async def tts(wanted: TtsRequest) -> SpokenResponse:
        """Errors before the first byte have a status; after it, the stream breaks off."""
        fields = wanted.model_dump()
        rate_hz = rate_of(wanted.format, fields.pop("sample_rate"))
        return SpokenResponse(service, Wanted(sample_rate_hz=rate_hz, **fields))

    # A contract's id may hold anything, a slash too.
    @router.post("/contracts/{contract_id:path}/interrupt", responses=failures(403))
    async def interrupt(contract_id: Annotated[str, Path(max_length=256)]) -> Interrupted:
        """Silence what every session of this contract is speaking and has queued."""
        return Interrupted(interrupted=service.contracts.interrupt(contract_id))

    return router
