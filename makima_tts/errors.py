"""The errors of the service: one tree, each class with its wire code.

In: nothing. Out: exceptions that any layer may raise; session and HTTP turn them into messages. Does not
know: the wire format, HTTP frameworks, logging.

A message says what was wrong, what is allowed, what to do. It never contains text, transcripts, tokens or
paths that a client or an operator supplied.
"""

from typing import ClassVar


class TtsError(Exception):
    """The root. ``code`` and ``recoverable`` go on the wire, ``http_status`` into HTTP answers.

    ``logged``: the failure is the service's own. A client's, and a lack of room, are only reported to it.
    """

    code: ClassVar[str] = "SYNTHESIS_ERROR"
    http_status: ClassVar[int] = 500
    recoverable: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidMessage(TtsError):
    """Not JSON, an unknown type, a wrong field or value, or a message that does not fit the state."""

    code = "INVALID_MESSAGE"
    http_status = 400


class InvalidText(TtsError):
    """Text that is empty after cleaning, too long, or in a language the engine cannot speak."""

    code = "INVALID_TEXT"
    http_status = 400
    recoverable = False


class VoiceNotFound(TtsError):
    """An unknown, malformed or unusable voice."""

    code = "VOICE_NOT_FOUND"
    http_status = 404
    recoverable = False


class Unauthorized(TtsError):
    """A missing or bad token."""

    code = "UNAUTHORIZED"
    http_status = 401
    recoverable = False


class Cancelled(TtsError):
    """Cancelled by the client, an interrupt, ``stop`` or a disconnect."""

    code = "CANCELLED"
    http_status = 499


class ModelLoading(TtsError):
    """The engine is still loading."""

    code = "MODEL_LOADING"
    http_status = 503


class TtsUnavailable(TtsError):
    """Loading failed, the engine is down, or the service is draining."""

    code = "TTS_UNAVAILABLE"
    logged = True
    http_status = 503


class SynthesisError(TtsError):
    """This utterance failed; others are untouched."""

    code = "SYNTHESIS_ERROR"
    logged = True


class GpuOutOfMemory(TtsError):
    """This utterance did not fit into the device's memory, even with empty caches."""

    code = "GPU_OUT_OF_MEMORY"
    http_status = 503


class UtteranceTimeout(TtsError):
    """Text at the head of the queue waited too long for audio."""

    code = "TIMEOUT"
    logged = True
    http_status = 408

    def __init__(self, message: str = "No audio came in time; try again, or speak less at once.") -> None:
        super().__init__(message)


class RateLimited(TtsError):
    """The queue is full, or there is no capacity for one more real-time stream."""

    code = "RATE_LIMITED"
    http_status = 429

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Forbidden(TtsError):
    """HTTP only: a page of a foreign origin, or a change to a shipped voice."""

    code = "FORBIDDEN"
    http_status = 403
    recoverable = False


class Conflict(TtsError):
    """HTTP only: the voice exists already."""

    code = "CONFLICT"
    http_status = 409
    recoverable = False


class InvalidClip(TtsError):
    """HTTP only: reference audio that cannot be used; the message says what is allowed."""

    code = "INVALID_AUDIO"
    http_status = 422
    recoverable = False


class PayloadTooLarge(TtsError):
    """HTTP only: a body over its limit."""

    code = "PAYLOAD_TOO_LARGE"
    http_status = 413
    recoverable = False
