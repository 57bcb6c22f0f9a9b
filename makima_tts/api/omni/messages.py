"""Messages of clients of vLLM-Omni's WebSocket.

In: one text frame. Out: one typed message, or InvalidMessage, which holds nothing of the frame. Does not
know: sessions, how the messages are answered.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from makima_tts.errors import InvalidMessage
from makima_tts.protocol import AUTO
from makima_tts.protocol.client_messages import MAX_SEED, ClientFields, Language, Speed

_NO_VOICE_OF_ITS_OWN = (
    "voices are not cloned by a session; add one with POST /v1/audio/voices, then name it in `voice`"
)


class _Fields(ClientFields):
    """Names in snake_case. Fields that only tune vLLM-Omni's engine are ignored."""

    model_config = ConfigDict(alias_generator=None)


class SessionConfig(_Fields):
    """The first message, and again between two flushes. Any ``model`` is fine; there is one."""

    type: Literal["session.config"]
    voice: str | None = None
    language: Language = AUTO
    response_format: Literal["wav", "pcm"] = "wav"
    stream_audio: bool = False
    split_granularity: Literal["none", "sentence", "clause"] = "none"
    speed: Speed = 1.0
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    task_type: Literal["CustomVoice", "Base"] | None = None
    word_timestamps: Literal[False] = False
    ref_audio: str | None = Field(None, repr=False)
    speaker_embedding: list[float] | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _can_be_done(self) -> "SessionConfig":
        if self.stream_audio and self.response_format != "pcm":
            raise ValueError("stream_audio needs response_format pcm")
        if self.ref_audio is not None or self.speaker_embedding is not None:
            raise ValueError(_NO_VOICE_OF_ITS_OWN)
        return self


class InputText(_Fields):
    """More text, split anywhere."""

    type: Literal["input.text"]
    text: str = Field(repr=False)


class InputDone(_Fields):
    """The end of a flush; the connection stays."""

    type: Literal["input.done"]


class SessionClose(_Fields):
    """The end of the connection."""

    type: Literal["session.close"]


OmniMessage = SessionConfig | InputText | InputDone | SessionClose
_ADAPTER: TypeAdapter[OmniMessage] = TypeAdapter(Annotated[OmniMessage, Field(discriminator="type")])


def parse_omni_message(text: str) -> OmniMessage:
    """Raises InvalidMessage: which field is wrong, what is allowed."""
    try:
        return _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    except (ValueError, RecursionError):
        raise InvalidMessage("Not JSON that this service reads; send one JSON object a frame.") from None
    if first["type"] == "json_invalid":
        raise InvalidMessage("Invalid JSON message")
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        raise InvalidMessage("`type` must be session.config, input.text, input.done or session.close.")
    where = "".join(f"`{part}`: " for part in first["loc"])
    raise InvalidMessage(f"{where}{first['msg'].removeprefix('Value error, ')}.")
