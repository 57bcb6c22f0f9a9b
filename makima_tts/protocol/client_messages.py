"""Messages from clients.

In: one text frame. Out: one typed, frozen message, or :class:`~makima_tts.errors.InvalidMessage`, whose text
holds nothing of the input. Does not know: what a session does with it.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from makima_tts.errors import InvalidMessage
from makima_tts.protocol.formats import (
    SAMPLE_RATES_HZ,
    AudioFormat,
    Encoding,
    PriorityName,
    TextCleaning,
    Transport,
    rate_of_encoding,
)
from makima_tts.protocol.languages import AUTO, LANGUAGES, language_name

MIN_SPEED, MAX_SPEED = 0.5, 2.0
MAX_SEED = 2**63 - 1


def _known_language(requested: str) -> str:
    name = language_name(requested)
    if name is None:
        raise ValueError(f"must be one of {', '.join((*LANGUAGES, AUTO))}, or a BCP-47 tag of one of them")
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
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
UtteranceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
# A voice that is malformed is VOICE_NOT_FOUND, not INVALID_MESSAGE: nothing is checked here.
VoiceId = str


class ClientFields(BaseModel):
    """The fields of a request: camelCase, strict; null means absent, unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            return {name: value for name, value in fields.items() if value is not None}
        return fields


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
    played_ms: Annotated[int, Field(ge=0)] | None = None


class Stop(ClientFields):
    """End the session."""

    type: Literal["stop"] = "stop"
    reason: Annotated[str, Field(max_length=256)] | None = None


class Ping(ClientFields):
    """Answered by ``pong`` with the same ``id``."""

    type: Literal["ping"] = "ping"
    id: Annotated[str, Field(max_length=256)] | None = None


ClientMessage = Start | Speak | Flush | Cancel | Stop | Ping
_ADAPTER: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse_client_message(text: str) -> ClientMessage:
    """One text frame → one message. Raises InvalidMessage: which field is wrong, what is allowed."""
    try:
        return _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        raise InvalidMessage(_explain(error)) from None
    except (ValueError, RecursionError):
        why = "Not JSON that this service can parse; send one JSON object per text frame."
        raise InvalidMessage(why) from None


def _explain(error: ValidationError) -> str:
    """A sentence about the first error, without any of the input (an unknown tag or key is input too)."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        return "Not JSON; send one JSON object per text frame."
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return "`type` must be start, speak, flush, cancel, stop or ping."
    if not first["loc"]:
        return "A message is one JSON object with a `type`."
    field = ": ".join(f"`{name}`" for name in first["loc"][:2])
    return f"In {field}: {first['msg'].removeprefix('Value error, ')}."
