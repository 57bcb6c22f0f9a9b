"""The messages of the protocol: from clients, from the server; what they say about audio, and their limits.

In: one text frame. Out: one typed, frozen message, or :class:`~makima_tts.errors.InvalidMessage`, whose text
holds nothing of the input; messages of the server as JSON. Does not know: sessions, who receives a message.

The base set of the server's messages is closed: a client that did not ask for events never receives a
``type`` outside it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from makima_tts.errors import InvalidMessage, TtsError
from makima_tts.protocol.fields import ClientFields, read_json
from makima_tts.protocol.languages import AUTO, LANGUAGES, language_name

SAMPLE_RATES_HZ: tuple[int, ...] = (8000, 16000, 22050, 24000, 44100, 48000)

Encoding = Literal["pcm16", "pcm32f", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
_BYTES_PER_SAMPLE: dict[Encoding, int] = {"pcm16": 2, "pcm32f": 4, "mulaw": 1, "alaw": 1}
# G.711 is made for telephones: it has one rate.
_ONLY_RATE_HZ: dict[Encoding, int] = {"mulaw": 8000, "alaw": 8000}
_DEFAULT_RATE_HZ = 24000

Transport = Literal["binary", "json"]
# Whether cleaning removes what is not spoken, such as marks of markdown. "off" is another name of "plain".
TextCleaning = Annotated[
    Literal["markdown", "plain"], BeforeValidator(lambda mode: "plain" if mode == "off" else mode)
]
# Whether ``words`` messages are sent.
Timings = Literal["none", "word"]
PriorityName = Literal["low", "normal", "high"]
# The earlier one speaks first.
PRIORITIES: tuple[PriorityName, ...] = ("high", "normal", "low")
# The audio of a turn without words (NothingToSay), in protocols where an error counts against the service.
SILENT_TURN_S = 0.2


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono: PCM, little endian, or G.711. ``sample_rate_hz`` is one of :data:`SAMPLE_RATES_HZ`.

    ``speed``: playback speed relative to the engine's audio, at the same pitch.
    """

    sample_rate_hz: int = _DEFAULT_RATE_HZ
    encoding: Encoding = "pcm16"
    speed: float = 1.0

    @property
    def bytes_per_sample(self) -> int:
        return _BYTES_PER_SAMPLE[self.encoding]

    def duration_ms(self, samples: int) -> int:
        """Playing time of this many samples in milliseconds, rounded to the nearest."""
        return round(samples * 1000 / self.sample_rate_hz)


def rate_of_encoding(encoding: Encoding, requested_hz: int | None) -> int:
    """The requested rate, or (None) the encoding's own. Raises ValueError if the encoding lacks it."""
    only_hz = _ONLY_RATE_HZ.get(encoding)
    if requested_hz is None:
        return only_hz or _DEFAULT_RATE_HZ
    if only_hz not in (None, requested_hz):
        raise ValueError(f"sampleRate must be {only_hz} with the encoding {encoding}; or leave it out")
    return requested_hz


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of sessions and routes. Text counts are Unicode code points after cleaning."""

    max_text_chars: int = 1000
    max_utterance_chars: int = 20_000
    max_queued_utterances: int = 32
    idle_timeout_ms: int = 120_000
    max_session_ms: int = 3_600_000
    max_text_stall_ms: int = 30_000
    # Tokens of a language model come faster; a tool call takes longer.
    text_idle_ms: int = 300
    utterance_timeout_ms: int = 30_000
    load_timeout_ms: int = 600_000
    # The protocol closes a session at its 20th invalid message.
    max_invalid_messages: int = 20
    # Late text of an ended utterance must be told from text for a new one.
    remembered_utterances: int = 1000
    # Audio sent ahead of the listener's clock is wasted device time if the listener leaves.
    max_ahead_ms: int = 20_000
    max_connections: int = 1000
    # Requests over HTTP that wait until the engine has room.
    max_waiting_requests: int = 256
    # The default of ``start.textCleaning``.
    text_cleaning: TextCleaning = "markdown"


MIN_SPEED, MAX_SPEED = 0.5, 2.0
MAX_SEED = 2**63 - 1


def _known_language(requested: str) -> str:
    name = language_name(requested)
    if name is None:
        raise ValueError(f"must be one of {', '.join((*LANGUAGES, AUTO))}, or a code of one of them")
    return name


def _known_sample_rate(requested: int) -> int:
    if requested not in SAMPLE_RATES_HZ:
        raise ValueError(f"must be one of {', '.join(map(str, SAMPLE_RATES_HZ))}")
    return requested


def _possible_speed(requested: float) -> float:
    if not MIN_SPEED <= requested <= MAX_SPEED:
        raise ValueError(f"must be from {MIN_SPEED} to {MAX_SPEED}")
    return requested


Language = Annotated[str, Field(max_length=35), AfterValidator(_known_language)]
SampleRate = Annotated[
    int, AfterValidator(_known_sample_rate), Field(json_schema_extra={"enum": list(SAMPLE_RATES_HZ)})
]
Speed = Annotated[
    float,
    AfterValidator(_possible_speed),
    Field(json_schema_extra={"minimum": MIN_SPEED, "maximum": MAX_SPEED}),
]
RANDOM_SEED = -1
Seed = Annotated[
    int,
    Field(ge=RANDOM_SEED, le=MAX_SEED),
    AfterValidator(lambda seed: None if seed == RANDOM_SEED else seed),
]
# Hints: one that makes no sense is left out, and its message is not refused for it.
_MAX_PLAYED_MS = 2**31 - 1
_MAX_NOTE_CHARS = 256


def _whole_ms(hint: Any) -> int | None:
    number = isinstance(hint, int | float) and not isinstance(hint, bool)
    return round(hint) if number and 0 <= hint <= _MAX_PLAYED_MS else None


def _note(hint: Any) -> str | None:
    return hint[:_MAX_NOTE_CHARS] if isinstance(hint, str) else None


def _echo(hint: Any) -> str | int | None:
    is_short = isinstance(hint, str) and len(hint) <= _MAX_NOTE_CHARS
    return hint if is_short or (isinstance(hint, int) and not isinstance(hint, bool)) else None


Hint = Annotated[str | None, BeforeValidator(lambda hint: hint if isinstance(hint, str) else None)]
PlayedMs = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_whole_ms)]
_Note = Annotated[str, Field(max_length=_MAX_NOTE_CHARS)]
UtteranceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
# A voice that is malformed is VOICE_NOT_FOUND, not INVALID_MESSAGE: nothing is checked here.
VoiceId = str


class Start(ClientFields):
    """Sets up the session. Optional: without it, a session has these defaults."""

    type: Literal["start"] = "start"
    sample_rate: SampleRate | None = Field(None, description="24000; 8000 with mulaw and alaw")
    encoding: Encoding = "pcm16"
    speed: Speed = 1.0
    voice: VoiceId | None = None
    language: Language = "English"
    transport: Transport = "binary"
    events: bool = False
    text_cleaning: TextCleaning | None = None
    timings: Timings = "none"
    auth_token: Annotated[str, Field(max_length=8192)] | None = Field(None, repr=False)
    contract_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @model_validator(mode="after")
    def _encoding_has_the_rate(self) -> "Start":
        rate_of_encoding(self.encoding, self.sample_rate)
        return self

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(rate_of_encoding(self.encoding, self.sample_rate), self.encoding, self.speed)


class Speak(ClientFields):
    """Text to speak; with ``final`` false the utterance stays open for more."""

    type: Literal["speak"] = "speak"
    text: str = Field(repr=False)
    priority: PriorityName = "normal"
    utterance_id: UtteranceId | None = None
    final: bool = True
    voice: VoiceId | None = None
    language: Language | None = None
    seed: Seed | None = None
    timings: Timings | None = None

    @model_validator(mode="after")
    def _open_text_has_a_name(self) -> "Speak":
        if not self.final and self.utterance_id is None:
            raise ValueError("utteranceId is required when final is false")
        return self


class Flush(ClientFields):
    """Speak the text so far, whole sentence or not."""

    type: Literal["flush"] = "flush"
    utterance_id: UtteranceId


class Cancel(ClientFields):
    """Cancel one utterance, or (without ``utteranceId``) everything in this session."""

    type: Literal["cancel"] = "cancel"
    utterance_id: UtteranceId | None = None
    played_ms: PlayedMs = None


class Stop(ClientFields):
    """End the session."""

    type: Literal["stop"] = "stop"
    reason: Annotated[_Note | None, BeforeValidator(_note)] = None


class Ping(ClientFields):
    """Answered by ``pong`` with the same ``id``."""

    as_sent = ("id",)
    type: Literal["ping"] = "ping"
    id: Annotated[_Note | int | None, BeforeValidator(_echo)] = None


ClientMessage = Start | Speak | Flush | Cancel | Stop | Ping
_ID: TypeAdapter[str] = TypeAdapter(UtteranceId)
_CLIENT_FIELDS: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)


def parse_client_message(text: str) -> ClientMessage:
    """One text frame → one message. Raises InvalidMessage: which field is wrong, what is allowed."""
    fields = read_json(text)
    try:
        return _CLIENT_FIELDS.validate_python(fields)
    except ValidationError as error:
        refusal = InvalidMessage(_explain(error))
        refusal.utterance_id = _utterance_id_of(fields)
        raise refusal from None


def _utterance_id_of(fields: Any) -> str | None:
    """What can be read of a message that is invalid otherwise."""
    try:
        return _ID.validate_python(fields.get("utteranceId") if isinstance(fields, dict) else None)
    except ValidationError:
        return None


def _explain(error: ValidationError) -> str:
    """A sentence about the first error, without any of the input (an unknown tag or key is input too)."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return "`type` must be start, speak, flush, cancel, stop or ping."
    if not first["loc"]:
        return "A message is one JSON object with a `type`."
    field = ": ".join(f"`{name}`" for name in first["loc"][:2])
    return f"In {field}: {first['msg'].removeprefix('Value error, ')}."


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
    """The utterance was spoken; ``warning``: what was left out. Text counts are code points as received."""

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
    warning: str | None = None


class AudioEnd(_Message):
    """For page sessions: no more audio of this utterance."""

    type: Literal["audio_end"] = "audio_end"
    sample_rate: int = Field(alias="sample_rate")
    format: Literal["pcm_s16le"] = "pcm_s16le"
    channels: Literal[1] = 1


class ErrorMessage(_Message):
    """With ``utteranceId``: that utterance's terminal message.

    ``reason`` is for programs, where one code has several causes: "nothing_to_say".
    """

    type: Literal["error"] = "error"
    code: str
    message: str
    recoverable: bool
    reason: str | None = None
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
            reason=error.reason,
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
    id: str | int | None = None


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


class TimedWord(_Message):
    """A word as it was sent, ``text[offset : offset + length]``, and its position in the audio.

    ``estimated``: from the usual durations of its letters; else it was measured.
    """

    word: str = Field(repr=False)
    offset: int
    length: int
    start_ms: int
    end_ms: int
    estimated: Literal[True] | None = None

    @classmethod
    def of(cls, text: str, start: int, end: int, *, start_ms: float, end_ms: float, estimated: bool) -> Self:
        """The word from ``start`` to ``end`` of the text as sent."""
        return cls(
            word=text[start:end],
            offset=start,
            length=end - start,
            start_ms=int(start_ms),
            end_ms=int(end_ms),
            estimated=estimated or None,
        )


class Words(_Message):
    """For clients that asked for ``timings``: the next words, before their audio is due to be played."""

    type: Literal["words"] = "words"
    utterance_id: str
    words: tuple[TimedWord, ...]


class Interrupted(_Message):
    """Extended set: the session's contract was interrupted: drop all audio that was not played yet.

    That includes audio of complete utterances, for which no CANCELLED is sent.
    """

    type: Literal["interrupted"] = "interrupted"


BaseMessage = Ready | Started | AudioChunkMessage | Complete | AudioEnd | ErrorMessage | Stopped | Pong
ExtendedMessage = Loading | Speaking | Sentence | Interrupted
# What clients receive because a field of theirs asked for it.
RequestedMessage = Words
ServerMessage = BaseMessage | ExtendedMessage | RequestedMessage


_SERVER_JSON: TypeAdapter[ServerMessage] = TypeAdapter(Annotated[ServerMessage, Field(discriminator="type")])


def serialize(message: ServerMessage | ClientMessage) -> str:
    """JSON, camelCase, without absent fields."""
    return message.model_dump_json(by_alias=True, exclude_none=True)


def parse_server_message(text: str) -> ServerMessage | None:
    """One text frame → one message; None for a ``type`` that this version does not know.

    Raises InvalidMessage, without any of the input, for anything else.
    """
    try:
        return _SERVER_JSON.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "union_tag_invalid":
            return None
        raise InvalidMessage("The service sent a message that the protocol does not allow.") from None
