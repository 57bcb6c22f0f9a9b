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
    # For programs, where one code has several causes.
    reason: ClassVar[str | None] = None

    def __init_subclass__(
        cls, code: str, http_status: int, recoverable: bool = True, logged: bool = False
    ) -> None:
        cls.code, cls.http_status, cls.recoverable, cls.logged = code, http_status, recoverable, logged

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class InvalidMessage(TtsError, code="INVALID_MESSAGE", http_status=400):
    """Not JSON, an unknown type, a wrong field or value, or a message that does not fit the state.

    ``utterance_id``: the one that the message names, if that could be read.
    """

    utterance_id: str | None = None


class InvalidText(TtsError, code="INVALID_TEXT", http_status=400, recoverable=False):
    """Text that is empty after cleaning, too long, or in a language the engine cannot speak."""


class NothingToSay(InvalidText, code="INVALID_TEXT", http_status=400, recoverable=False):
    """Text of which nothing is spoken, such as emoji alone. In the protocols of others it is a silence."""

    reason = "nothing_to_say"


class VoiceNotFound(TtsError, code="VOICE_NOT_FOUND", http_status=404, recoverable=False):
    """An unknown, malformed or unusable voice."""


class Unauthorized(TtsError, code="UNAUTHORIZED", http_status=401, recoverable=False):
    """A missing or bad token."""


class Cancelled(TtsError, code="CANCELLED", http_status=499):
    """Cancelled by the client, an interrupt, ``stop`` or a disconnect."""


class ModelLoading(TtsError, code="MODEL_LOADING", http_status=503):
    """The engine is still loading."""


class TtsUnavailable(TtsError, code="TTS_UNAVAILABLE", http_status=503, logged=True):
    """Loading failed, the engine is down, or the service is draining."""


class SynthesisError(TtsError, code="SYNTHESIS_ERROR", http_status=500, logged=True):
    """This utterance failed; others are untouched."""


class GpuOutOfMemory(TtsError, code="GPU_OUT_OF_MEMORY", http_status=503):
    """This utterance did not fit into the device's memory, even with empty caches."""


class UtteranceTimeout(TtsError, code="TIMEOUT", http_status=408, logged=True):
    """Text at the head of the queue waited too long for audio."""

    def __init__(self) -> None:
        super().__init__("No audio came in time; try again, or speak less at once.")


class RateLimited(TtsError, code="RATE_LIMITED", http_status=429):
    """The queue is full, or there is no capacity for one more real-time stream."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class Forbidden(TtsError, code="FORBIDDEN", http_status=403, recoverable=False):
    """HTTP only: a page of a foreign origin, or a change to a shipped voice."""


class UpgradeRequired(TtsError, code="UPGRADE_REQUIRED", http_status=426, recoverable=False):
    """HTTP only: a plain request to the address of a WebSocket."""


class Conflict(TtsError, code="CONFLICT", http_status=409, recoverable=False):
    """HTTP only: the voice exists already."""


class InvalidClip(TtsError, code="INVALID_AUDIO", http_status=422, recoverable=False):
    """HTTP only: reference audio that cannot be used; the message says what is allowed."""


class PayloadTooLarge(TtsError, code="PAYLOAD_TOO_LARGE", http_status=413, recoverable=False):
    """HTTP only: a body over its limit."""
