"""Messages from the server.

In: values from the session. Out: typed messages and their JSON; for clients, the reverse. Does not know: who
receives them.

The base set is closed: a client that did not ask for events never receives a ``type`` outside it.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from makima_tts.errors import InvalidMessage, TtsError
from makima_tts.protocol.client_messages import ClientMessage
from makima_tts.protocol.formats import Encoding


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Capabilities(_Message):
    """What the engine can do."""

    streaming: bool = True
    languages: tuple[str, ...]
    encodings: tuple[Encoding, ...]
    sample_rates: tuple[int, ...]
    cloning: bool
    text_streaming: bool


class ReadyLimits(_Message):
    """The limits that a client should know."""

    max_text_chars: int
    max_queued_utterances: int
    idle_timeout_ms: int
    max_session_ms: int
    max_text_stall_ms: int


class Ready(_Message):
    """Always the first message: the engine can speak."""

    type: Literal["ready"] = "ready"
    session_id: str
    voice_loaded: bool
    capabilities: Capabilities
    engine: str
    model: str
    protocol_version: int
    limits: ReadyLimits
    sample_rate: int
    encoding: Encoding
    voice: str


class Started(_Message):
    """Answers ``start`` once the voice is loaded; ``warning`` says why it is not the requested voice."""

    type: Literal["started"] = "started"
    sample_rate: int
    encoding: Encoding
    voice: str
    language: str
    warning: str | None = None


class AudioChunkMessage(_Message):
    """Audio as base64, for ``transport:"json"``; ``timestamp``: its first sample's position, seconds."""

    type: Literal["audioChunk"] = "audioChunk"
    utterance_id: str
    data: str = Field(repr=False)
    sequence_number: int
    is_final: bool
    timestamp_ms: int
    timestamp: float


class Complete(_Message):
    """The utterance was spoken. Text counts are code points as received."""

    type: Literal["complete"] = "complete"
    utterance_id: str
    duration_ms: int
    audio_length_ms: int
    characters_processed: int
    text_length: int
    total_chunks: int
    ttfa_ms: int
    queue_ms: int
    rtf: float
    finish_reason: Literal["stop", "length"]


class AudioEnd(_Message):
    """For page sessions: no more audio of this utterance."""

    type: Literal["audio_end"] = "audio_end"
    sample_rate: int = Field(alias="sample_rate")
    format: Literal["pcm_s16le"] = "pcm_s16le"
    channels: Literal[1] = 1


class ErrorMessage(_Message):
    """With ``utteranceId``: that utterance's terminal message."""

    type: Literal["error"] = "error"
    code: str
    message: str
    recoverable: bool
    utterance_id: str | None = None
    retry_after_ms: int | None = None
    audio_ms: int | None = None
    played_ms: int | None = None
    text_spoken: str | None = Field(None, repr=False)
    text_remaining: str | None = Field(None, repr=False)

    @classmethod
    def of(cls, error: TtsError, utterance_id: str | None = None) -> Self:
        """With an id it is that utterance's terminal message, or says that it was not accepted."""
        retry_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
        return cls(
            code=error.code,
            message=error.message,
            recoverable=error.recoverable,
            utterance_id=utterance_id,
            retry_after_ms=retry_ms,
        )


class Stopped(_Message):
    """The last message before the close."""

    type: Literal["stopped"] = "stopped"
    reason: str | None = None


class Pong(_Message):
    """Answers ``ping``."""

    type: Literal["pong"] = "pong"
    id: str | None = None


class Loading(_Message):
    """Extended set: the engine is loading; ``progress`` in 0…1."""

    type: Literal["loading"] = "loading"
    stage: str
    progress: float


class Speaking(_Message):
    """Extended set: before an utterance's first audio."""

    type: Literal["speaking"] = "speaking"
    utterance_id: str
    sample_rate: int
    encoding: Encoding
    channels: Literal[1] = 1
    queue_ms: int


class Sentence(_Message):
    """Extended set: one piece of the text, as sent, and its position in the audio."""

    type: Literal["sentence"] = "sentence"
    utterance_id: str
    index: int
    text: str = Field(repr=False)
    start_ms: int
    end_ms: int


class Interrupted(_Message):
    """Extended set: the session's contract was interrupted: drop all audio that was not played yet.

    That includes audio of complete utterances, for which no CANCELLED is sent.
    """

    type: Literal["interrupted"] = "interrupted"


BaseMessage = Ready | Started | AudioChunkMessage | Complete | AudioEnd | ErrorMessage | Stopped | Pong
ExtendedMessage = Loading | Speaking | Sentence | Interrupted
ServerMessage = BaseMessage | ExtendedMessage


_ADAPTER: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


def serialize(message: ServerMessage | ClientMessage) -> str:
    """JSON, camelCase, without absent fields."""
    return message.model_dump_json(by_alias=True, exclude_none=True)


def parse_server_message(text: str) -> ServerMessage | None:
    """One text frame → one message; None for a ``type`` that this version does not know.

    Raises InvalidMessage, without any of the input, for anything else.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "union_tag_invalid":
            return None
        raise InvalidMessage("The service sent a message that the protocol does not allow.") from None
