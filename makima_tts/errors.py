"""The errors of the service: one tree, each class with its wire code.

In: nothing. Out: exceptions that any layer may raise; session and HTTP turn them into messages. Does not
know: the wire format, HTTP frameworks, logging.

A message says what was wrong, what is allowed, what to do. It never contains text, transcripts, tokens or
paths that a client or an operator supplied.
"""

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """The cause. Errors of the server are logged; a client's are only reported to the client."""

    CLIENT = "client"
    SERVER = "server"
    CAPACITY = "capacity"


class TtsError(Exception):
    """The root. ``code`` and ``recoverable`` go on the wire, ``http_status`` into HTTP answers."""

    code: ClassVar[str] = "SYNTHESIS_ERROR"
    fault: ClassVar[Fault] = Fault.SERVER
    http_status: ClassVar[int] = 500
    recoverable: ClassVar[bool] = True

    def __init_subclass__(cls, code: str, fault: Fault, http_status: int, recoverable: bool = True) -> None:
        cls.code, cls.fault, cls.http_status, cls.recoverable = code, fault, http_status, recoverable

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidMessage(TtsError, code="INVALID_MESSAGE", fault=Fault.CLIENT, http_status=400):
    """Not JSON, an unknown type, a wrong field or value, or a message that does not fit the state."""


class InvalidText(TtsError, code="INVALID_TEXT", fault=Fault.CLIENT, http_status=400, recoverable=False):
    """Text that is empty after cleaning, too long, or in a language the engine cannot speak."""


class VoiceNotFound(TtsError, code="VOICE_NOT_FOUND", fault=Fault.CLIENT, http_status=404, recoverable=False):
    """An unknown, malformed or unusable voice."""


class Unauthorized(TtsError, code="UNAUTHORIZED", fault=Fault.CLIENT, http_status=401, recoverable=False):
    """A missing or bad token."""


class Cancelled(TtsError, code="CANCELLED", fault=Fault.CLIENT, http_status=499):
    """Cancelled by the client, an interrupt, ``stop`` or a disconnect."""


class ModelLoading(TtsError, code="MODEL_LOADING", fault=Fault.CAPACITY, http_status=503):
    """The engine is still loading."""


class TtsUnavailable(TtsError, code="TTS_UNAVAILABLE", fault=Fault.SERVER, http_status=503):
    """Loading failed, the engine is down, or the service is draining."""


class SynthesisError(TtsError, code="SYNTHESIS_ERROR", fault=Fault.SERVER, http_status=500):
    """This utterance failed; others are untouched."""


class GpuOutOfMemory(TtsError, code="GPU_OUT_OF_MEMORY", fault=Fault.CAPACITY, http_status=503):
    """This utterance did not fit into the device's memory, even with empty caches."""


class UtteranceTimeout(TtsError, code="TIMEOUT", fault=Fault.SERVER, http_status=408):
    """Text at the head of the queue waited too long for audio."""

    def __init__(self) -> None:
        super().__init__("No audio came in time; try again, or speak less at once.")


class RateLimited(TtsError, code="RATE_LIMITED", fault=Fault.CAPACITY, http_status=429):
    """The queue is full, or there is no capacity for one more real-time stream."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Forbidden(TtsError, code="FORBIDDEN", fault=Fault.CLIENT, http_status=403, recoverable=False):
    """HTTP only: a page of a foreign origin, or a change to a shipped voice."""


class Conflict(TtsError, code="CONFLICT", fault=Fault.CLIENT, http_status=409, recoverable=False):
    """HTTP only: the voice exists already."""


class InvalidClip(TtsError, code="INVALID_AUDIO", fault=Fault.CLIENT, http_status=422, recoverable=False):
    """HTTP only: reference audio that cannot be used; the message says what is allowed."""


class PayloadTooLarge(
    TtsError, code="PAYLOAD_TOO_LARGE", fault=Fault.CLIENT, http_status=413, recoverable=False
):
    """HTTP only: a body over its limit."""
