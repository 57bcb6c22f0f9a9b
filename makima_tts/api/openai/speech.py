"""Speech and models as OpenAI's clients ask for them.

In: OpenAI's JSON. Out: audio, events, listings. Does not know: how anything is made.
"""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from makima_tts.api.openai.errors import openai_error_body, openai_failures
from makima_tts.api.openai.voice_names import OpenAIVoices
from makima_tts.api.service import Service
from makima_tts.api.spoken_events import EventBody
from makima_tts.api.spoken_response import SpokenResponse
from makima_tts.api.spoken_utterance import SpokenText, Wanted
from makima_tts.audio import MEDIA_TYPES, OutputFormat, rate_of
from makima_tts.protocol import AUTO
from makima_tts.protocol.client_messages import MAX_SEED, ClientFields, Language, SampleRate, Speed

# What clients look for before they speak. The model that is named when speaking may be any.
_OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
_OWNER = "makima-tts"


class VoiceReference(ClientFields):
    """OpenAI's way of naming a voice that was added."""

    id: str


class SpeechRequest(ClientFields):
    """``input`` is bounded by TTS_MAX_UTTERANCE_CHARS code points."""

    model_config = ConfigDict(alias_generator=None)

    input: SpokenText
    model: str | None = Field(None, description="Any: there is one model", examples=["tts-1"])
    voice: str | VoiceReference | None = Field(
        None, description="A voice's id, or a name of OpenAI's", examples=["alloy"]
    )
    response_format: OutputFormat = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: Speed = 1.0
    instructions: str | None = Field(None, repr=False, description="Ignored: no model here can follow them")
    language: Language = AUTO
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    sample_rate: SampleRate | None = Field(
        None, description="None is the format's own: 24000; 8000 for G.711"
    )

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceReference) else self.voice

    @property
    def ignored(self) -> dict[str, str]:
        """The header that says what had no effect."""
        return {"X-Ignored-Parameters": "instructions"} if self.instructions else {}


class Model(BaseModel):
    """A model, as OpenAI describes one. ``created``: when this service was started."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = _OWNER


class Models(BaseModel):
    """The engine's own model first, then the names by which OpenAI's clients look for one."""

    object: Literal["list"] = "list"
    data: list[Model]


class AudioModel(BaseModel):
    """A model, as Open WebUI reads one."""

    id: str
    name: str


class AudioModels(BaseModel):
    """What Open WebUI offers to choose from."""

    models: list[AudioModel]


def openai_router(service: Service, voices: OpenAIVoices) -> APIRouter:
    """``/v1/audio/speech``, ``/v1/models`` and ``/v1/audio/models``."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    _add_speech(router, service, voices)
    _add_models(router, service)
    return router


def _add_speech(router: APIRouter, service: Service, voices: OpenAIVoices) -> None:
    bodies: dict[str, object] = {media: {} for media in (*MEDIA_TYPES.values(), EventBody.media_type)}
    spoken: dict[int | str, dict[str, Any]] = {200: {"content": bodies, "description": "Mono audio"}}

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses=spoken | openai_failures(400, 403, 404, 408, 413, 429, 500, 503),
    )
    async def create_speech(wanted: SpeechRequest) -> SpokenResponse:
        """Speak ``input``, streamed as it is made. Errors before the first byte have a status."""
        utterance = Wanted(
            text=wanted.input,
            voice=await voices.library_name(wanted.voice_name),
            language=wanted.language,
            format=wanted.response_format,
            sample_rate_hz=rate_of(wanted.response_format, wanted.sample_rate),
            seed=wanted.seed,
            speed=wanted.speed,
        )
        form = EventBody() if wanted.stream_format == "sse" else None
        return SpokenResponse(service, utterance, form, wanted.ignored)


def _add_models(router: APIRouter, service: Service) -> None:
    started = int(time.time())

    def names() -> list[str]:
        return [service.engine.facts.model, *_OPENAI_MODELS]

    @router.get("/models")
    def list_models() -> Models:
        return Models(data=[Model(id=name, created=started) for name in names()])

    # Ours may be a Hugging Face id, which has a slash.
    @router.get("/models/{model_id:path}", response_model=Model, responses=openai_failures(404))
    def get_model(model_id: str) -> Model | JSONResponse:
        if model_id in names():
            return Model(id=model_id, created=started)
        message = "There is no such model; GET /v1/models lists those there are."
        body = openai_error_body(404, "model_not_found", message, "model")
        return JSONResponse(body.model_dump(), 404)

    @router.get("/audio/models")
    def list_audio_models() -> AudioModels:
        """The models once more, in the shape that Open WebUI reads."""
        return AudioModels(models=[AudioModel(id=name, name=name) for name in names()])
