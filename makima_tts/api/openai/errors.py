"""Failures in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

In: a status, a code and words; TtsErrors. Out: bodies. Does not know: which paths answer so, the other shape.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from makima_tts.errors import InvalidClip, InvalidText, TtsError, VoiceNotFound

OpenAIErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]

# Whose fault it is, as OpenAI words it; what is not named here is the client's below 500.
_TYPES: dict[int, OpenAIErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    408: "server_error",  # it is the service that was too slow
    429: "rate_limit_error",
}
_PARAMS: dict[type[TtsError], str] = {
    InvalidText: "input",
    VoiceNotFound: "voice",
    InvalidClip: "audio_sample",
}


class OpenAIErrorFields(BaseModel):
    """``code`` is the service's own, the same as on every other path."""

    message: str
    type: OpenAIErrorType
    param: str | None = Field(description="The field that is at fault, if it is one")
    code: str


class OpenAIErrorBody(BaseModel):
    """What every failure under /v1 answers."""

    error: OpenAIErrorFields


def openai_failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: which failures it may answer with."""
    return {status: {"model": OpenAIErrorBody} for status in statuses}


def openai_error_body(status: int, code: str, message: str, param: str | None) -> OpenAIErrorBody:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return OpenAIErrorBody(error=OpenAIErrorFields(message=message, type=kind, param=param, code=code))


def param_of(error: TtsError) -> str | None:
    """Where only one field can have led to it."""
    return _PARAMS.get(type(error))
