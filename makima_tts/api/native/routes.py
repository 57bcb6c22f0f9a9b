"""The service's own protocol: the WebSocket of docs/protocol.md, and HTTP beside it for voices and operators.

In: upgrades, JSON, multipart forms, GETs. Out: connections; audio, listings, health, metrics, the page. Does
not know: the conversation, how speech is generated, where voices are stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, File, Form, Path, Response, UploadFile, WebSocket
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from makima_tts import __version__
from makima_tts.api.connection import NOT_TEXT, ContentFrame, Frame, accepted_subprotocol, serve_websocket
from makima_tts.api.failures import ErrorBody, failures
from makima_tts.api.inline_clones import CloneOptions
from makima_tts.api.service import Service
from makima_tts.api.speech_response import EVENT_STREAM, SpeakableText, SpeechResponse
from makima_tts.audio import MEDIA_TYPES, ClipReport, OutputFormat, rate_of
from makima_tts.errors import InvalidMessage, TtsUnavailable
from makima_tts.metrics import CONTENT_TYPE
from makima_tts.protocol import AudioChunkMessage, asyncapi_document, parse_client_message, serialize
from makima_tts.protocol.fields import ClientFields
from makima_tts.protocol.messages import Language, SampleRate, Seed, Speed, VoiceId
from makima_tts.session.effects import FeedPiece, Send, SendAudio
from makima_tts.session.inputs import Malformed, SessionInput
from makima_tts.speaking import AudioOutput
from makima_tts.speech import CloneMode
from makima_tts.voices import VoiceListing, VoiceManager, VoiceUpload
from makima_tts.voices.library import MAX_NAME_CHARS, MAX_NOTE_CHARS, MAX_TRANSCRIPT_CHARS

STATIC = FilePath(__file__).parents[1] / "static"
_CLIP_WORDS = "A recording of 3 to 60 s, best 5 to 15: WAV, MP3, M4A, WebM and others (docs/operations.md)"
ClipFile = Annotated[UploadFile, File(description=_CLIP_WORDS)]
VoiceName = Annotated[
    str, Form(max_length=MAX_NAME_CHARS, description="Its id is made of it", examples=["Anna"])
]
ClipLanguage = Annotated[str, Form(max_length=35, description="A name or tag", examples=["en"])]
_Note = Annotated[str, Form(max_length=MAX_NOTE_CHARS)]
_Text = Annotated[
    str, Form(max_length=MAX_TRANSCRIPT_CHARS, description="Every word that is said in the clip")
]
_Mode = Annotated[CloneMode, Form(description="icl needs the transcript; xvector goes by sound alone")]


@dataclass(slots=True)
class NativeDialect:
    """The session's own messages: docs/protocol.md."""

    events: bool
    plays_live: ClassVar[bool] = True

    def read(self, text: str | None) -> Iterable[SessionInput | Frame]:
        if text is None:
            return [NOT_TEXT]
        try:
            return [parse_client_message(text)]
        except InvalidMessage as error:
            return [Malformed(error.message, error.utterance_id)]

    def write(self, effect: Send | SendAudio) -> Iterable[Frame]:
        if isinstance(effect, SendAudio):
            return [ContentFrame(effect.data, audio=True)]
        audio = isinstance(effect.message, AudioChunkMessage)
        return [ContentFrame(serialize(effect.message), audio=audio)]

    def feed(self, effect: FeedPiece) -> FeedPiece | None:
        return effect

    async def look_up_voice(self, name: str | None) -> str | None:
        return name


def speak_router(service: Service) -> APIRouter:
    """``/api/v1/speak``, and ``/asyncapi.json``, which describes it."""
    router = APIRouter()
    description = asyncapi_document(__version__)

    @router.websocket("/api/v1/speak")
    async def speak(websocket: WebSocket) -> None:
        dialect = NativeDialect(events=accepted_subprotocol(websocket) is not None)
        await serve_websocket(websocket, service, dialect)

    @router.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> dict[str, Any]:
        return description

    return router


class TtsRequest(CloneOptions):
    """``text`` is bounded by TTS_MAX_UTTERANCE_CHARS code points."""

    model_config = ConfigDict(alias_generator=to_camel)

    text: SpeakableText
    voice: VoiceId | None = None
    language: Language = "English"
    format: OutputFormat = "wav"
    sample_rate: SampleRate | None = Field(None, description="24000; 8000 with mulaw and alaw")
    speed: Speed = 1.0
    seed: Seed | None = None


class InterruptedContract(ClientFields):
    """How many utterances were silenced."""

    model_config = ConfigDict(title="Interrupted")
    __qualname__ = "Interrupted"  # its name in /openapi.json

    interrupted: int


def tts_router(service: Service) -> APIRouter:
    """``/api/v1/tts`` and ``/api/v1/contracts/{contractId}/interrupt``."""
    router = APIRouter(prefix="/api/v1", tags=["speech"])
    audio: dict[str, object] = {media: {} for media in (*MEDIA_TYPES.values(), EVENT_STREAM)}
    spoken: dict[int | str, dict[str, Any]] = {200: {"content": audio, "description": "Mono audio"}}

    @router.post(
        "/tts", response_class=Response, responses=spoken | failures(400, 404, 408, 413, 422, 429, 500, 503)
    )
    async def tts(request: TtsRequest) -> SpeechResponse:
        """Errors before the first byte have a status; after it, the stream breaks off."""
        return SpeechResponse(
            service,
            request.text,
            AudioOutput(request.format, rate_of(request.format, request.sample_rate), request.speed),
            request.body(MEDIA_TYPES[request.format]),
            voice=request.clip or request.voice,
            language=request.language,
            seed=request.seed,
        )

    # A contract's id may hold anything, a slash too.
    @router.post("/contracts/{contract_id:path}/interrupt", responses=failures(403))
    async def interrupt(contract_id: Annotated[str, Path(max_length=256)]) -> InterruptedContract:
        """Silence what every session of this contract is speaking and has queued."""
        return InterruptedContract(interrupted=service.interrupt_contract(contract_id))

    return router


class Voices(BaseModel):
    """Every voice, available or not."""

    voices: list[VoiceListing]


class AddedVoice(BaseModel):
    """The new voice, and what can be said of its clip."""

    voice: VoiceListing
    report: ClipReport = Field(description="The clip as it was sent, and what was done to it")


def voices_router(voices: VoiceManager) -> APIRouter:
    """``/api/v1/voices``. Routes that are not ``async`` run in a worker thread: they look at the disk."""
    router = APIRouter(prefix="/api/v1/voices", tags=["voices"])

    @router.get("")
    def list_voices() -> Voices:
        """All voices, also those that cannot be used now, with the reason."""
        return Voices(voices=voices.list())

    @router.get("/{voice_id}", responses=failures(404))
    def get_voice(voice_id: str) -> VoiceListing:
        return voices.describe(voice_id)

    @router.post("", status_code=201, responses=failures(400, 409, 413, 422, 503))
    async def add_voice(
        *,
        audio: ClipFile,
        name: VoiceName,
        transcript: _Text = "",
        language: ClipLanguage = "",
        description: _Note = "",
        mode: _Mode = "icl",
        consent: _Note = "",
    ) -> AddedVoice:
        """Add a voice from a recording of one person. Get the speaker's consent first, and note it."""
        upload = VoiceUpload(audio.file, name, transcript, language, description, mode, consent)
        listing, report = await voices.add(upload)
        return AddedVoice(voice=listing, report=report)

    @router.delete("/{voice_id}", status_code=204, responses=failures(403, 404, 503))
    async def delete_voice(voice_id: str) -> None:
        """Delete a voice that was added. Who is speaking with it finishes."""
        await voices.delete(voice_id)

    return router


class Health(BaseModel):
    """The process lives; whether it can speak is ``/ready``'s to say."""

    status: str = "ok"


class Readiness(BaseModel):
    """An utterance was synthesized after loading."""

    status: str = "ready"
    engine: str
    model: str
    voice: str


def ops_router(service: Service) -> APIRouter:
    """``/health``, ``/ready``, ``/metrics``, ``/speak``."""
    router = APIRouter()

    @router.get("/health", tags=["operations"])
    async def health() -> Health:
        return Health()

    @router.get("/ready", tags=["operations"], responses={503: {"model": ErrorBody}})
    async def ready() -> Readiness:
        if service.draining_until_s is not None:
            raise TtsUnavailable("The service is shutting down.")
        report = service.require_engine()
        health = service.engine.health()
        if not health.alive:
            raise TtsUnavailable(f"The engine is down: {health.reason}.")
        return Readiness(engine=report.engine, model=report.model, voice=report.voice)

    @router.get("/metrics", tags=["operations"], response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.render(service.engine.facts.kernels), media_type=CONTENT_TYPE)

    @router.get("/speak", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "speak.html")

    @router.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("speak")  # relative: a proxy may have removed a prefix

    return router
