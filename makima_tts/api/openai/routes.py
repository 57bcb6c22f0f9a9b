"""OpenAI's audio API under /v1: speech, models and voices, in the shapes that its clients read.

In: OpenAI's JSON and forms, ids. Out: audio, server-sent events, listings. Does not know: how speech is
generated, where voices are stored.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from makima_tts.api.failures import openai_error_body, openai_failures
from makima_tts.api.inline_clones import CloneOptions
from makima_tts.api.native.routes import ClipFile, ClipLanguage, VoiceName
from makima_tts.api.service import Service, VoiceLookup
from makima_tts.api.speech_response import EVENT_STREAM, SpeakableText, SpeechResponse
from makima_tts.audio import MEDIA_TYPES, ClipReport, OutputFormat, rate_of
from makima_tts.errors import VoiceNotFound
from makima_tts.protocol import AUTO
from makima_tts.protocol.fields import ClientFields
from makima_tts.protocol.messages import Hint, Language, SampleRate, Seed, Speed
from makima_tts.speaking import AudioOutput
from makima_tts.voices import VoiceListing, VoiceManager, VoiceUpload
from makima_tts.voices.library import MAX_NOTE_CHARS, MAX_TRANSCRIPT_CHARS
from makima_tts.voices.names import id_of_name

# Clients look for one of these before they speak. The model that is named when speaking may be any.
_OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
_TEXT_WORDS = "Every word that is said in the clip. Without it the voice goes by sound alone"
_Text = Annotated[str, Form(max_length=MAX_TRANSCRIPT_CHARS, description=_TEXT_WORDS)]


def openai_voice_lookup(voices: VoiceManager, spoken_by: Mapping[str, str | None]) -> VoiceLookup:
    """From a client's name of a voice to the id of one of the library; None is the default voice.

    ``spoken_by``: OpenAI's names, which clients use without asking what there is, each with the voice that
    the operator chose for it, or None. A voice of the library that has such a name is itself. The lookup
    raises VoiceNotFound for a voice that the operator chose and that is not there.
    """

    async def look_up(name: str | None) -> str | None:
        if name is None or (alias := id_of_name(name)) not in spoken_by:
            return name
        with suppress(VoiceNotFound):
            return (await asyncio.to_thread(voices.describe, name)).id
        if (voice_id := spoken_by[alias]) is None:
            return None
        with suppress(VoiceNotFound):
            return (await asyncio.to_thread(voices.describe, voice_id)).id
        raise VoiceNotFound(
            f"TTS_OPENAI_VOICES has {alias} spoken by {voice_id}, and there is no voice {voice_id}. "
            "The operator must add it, or choose one that GET /v1/audio/voices lists."
        )

    return look_up


class VoiceById(ClientFields):
    """OpenAI's way of naming a voice that was added."""

    model_config = ConfigDict(title="VoiceReference")
    __qualname__ = "VoiceReference"  # its name in /openapi.json

    id: str


class SpeechRequest(CloneOptions):
    """``input`` is bounded by TTS_MAX_UTTERANCE_CHARS code points."""

    input: SpeakableText
    model: Hint = Field(None, description="Any: there is one model", examples=["tts-1"])
    voice: str | VoiceById | None = Field(
        None, description="A voice's id, or a name of OpenAI's", examples=["alloy"]
    )
    response_format: OutputFormat = "mp3"
    speed: Speed = 1.0
    instructions: Hint = Field(None, repr=False, description="Ignored: no model here can follow them")
    language: Language = AUTO
    seed: Seed | None = None
    sample_rate: SampleRate | None = Field(
        None, description="None is the format's own: 24000; 8000 for G.711"
    )


class Model(BaseModel):
    """A model, as OpenAI describes one. ``created``: when this service was started."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "makima-tts"


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


def openai_router(service: Service, look_up_voice: VoiceLookup) -> APIRouter:
    """``/v1/audio/speech``, ``/v1/models`` and ``/v1/audio/models``."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    _add_speech(router, service, look_up_voice)
    _add_models(router, service)
    return router


def _add_speech(router: APIRouter, service: Service, look_up_voice: VoiceLookup) -> None:
    bodies: dict[str, object] = {media: {} for media in (*MEDIA_TYPES.values(), EVENT_STREAM)}
    spoken: dict[int | str, dict[str, Any]] = {200: {"content": bodies, "description": "Mono audio"}}

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses=spoken | openai_failures(400, 403, 404, 408, 413, 422, 429, 500, 503),
    )
    async def create_speech(request: SpeechRequest) -> SpeechResponse:
        """Speak ``input``, streamed as it is made. Errors before the first byte have a status."""
        format_, voice = request.response_format, request.voice
        return SpeechResponse(
            service,
            request.input,
            AudioOutput(format_, rate_of(format_, request.sample_rate), request.speed),
            request.body(MEDIA_TYPES[format_]),
            voice=request.clip or await look_up_voice(voice.id if isinstance(voice, VoiceById) else voice),
            language=request.language,
            seed=request.seed,
            silent_turns=True,
            headers={"X-Ignored-Parameters": "instructions"} if request.instructions else None,
        )


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


class NamedVoice(BaseModel):
    """A voice, as Open WebUI reads one."""

    id: str
    name: str


class AudioVoice(BaseModel):
    """A voice, as OpenAI describes one, and whether it can speak now."""

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    name: str
    type: Literal["audio_sample"] = "audio_sample"
    language: str = Field(description="English name of what its clip speaks, or Auto")
    available: bool
    reason: str | None = Field(None, description="Why it is not available, and what to do")


class CreatedVoice(AudioVoice):
    """``created_at``: now, in Unix seconds. ``report``: of the clip; OpenAI has none."""

    created_at: int
    report: ClipReport


class DeletedVoice(BaseModel):
    """What OpenAI's clients wait for."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


class AudioVoices(BaseModel):
    """``voices``: those that can speak now, as Open WebUI offers them. ``data``: all, those first."""

    object: Literal["list"] = "list"
    voices: list[NamedVoice]
    data: list[AudioVoice]


def openai_voices_router(voices: VoiceManager) -> APIRouter:
    """``/v1/audio/voices``. Routes that are not ``async`` run in a worker thread: they look at the disk."""
    router = APIRouter(prefix="/v1/audio/voices", tags=["OpenAI"])

    @router.get("")
    def list_audio_voices() -> AudioVoices:
        """The voices of the library. OpenAI's names are not among them: they are other names for these."""
        listings = sorted(voices.list(), key=lambda listing: not listing.available)
        usable = [NamedVoice(id=listing.id, name=listing.name) for listing in listings if listing.available]
        return AudioVoices(voices=usable, data=[AudioVoice(**_described(listing)) for listing in listings])

    @router.post("", responses=openai_failures(400, 403, 409, 413, 422, 429, 503))
    async def create_audio_voice(
        *,
        kind: Annotated[
            Literal["audio_sample"],
            Form(alias="type", description="No voice here is made of a description"),
        ] = "audio_sample",
        audio_sample: ClipFile,
        name: VoiceName,
        consent: Annotated[
            str, Form(max_length=MAX_NOTE_CHARS, description="Any note of the speaker's consent; it is kept")
        ],
        ref_text: _Text = "",
        language: ClipLanguage = "",
    ) -> CreatedVoice:
        """Add a voice from a recording of one person. Get the speaker's consent first, and note it."""
        mode = "icl" if ref_text.strip() else "xvector"
        upload = VoiceUpload(audio_sample.file, name, ref_text, language, mode=mode, consent=consent)
        listing, report = await voices.add(upload)
        return CreatedVoice(**_described(listing), created_at=int(time.time()), report=report)

    @router.delete("/{voice_id}", responses=openai_failures(403, 404, 503))
    async def delete_audio_voice(voice_id: str) -> DeletedVoice:
        """Delete a voice that was added. Who is speaking with it finishes."""
        await voices.delete(voice_id)
        return DeletedVoice(id=voice_id)

    return router


def _described(listing: VoiceListing) -> dict[str, Any]:
    return listing.model_dump(include=set(AudioVoice.model_fields))
