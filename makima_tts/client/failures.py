"""How speaking through a service can fail, as the client meets it.

In: the service's ``error`` messages and the ends of connections. Out: exceptions. Does not know: sockets.

These are not the service's own errors (:mod:`makima_tts.errors`): a client may be older than the service it
talks to, so ``code`` is whatever came over the wire.
"""

from makima_tts.errors import Cancelled
from makima_tts.protocol import ErrorMessage


class ClientError(Exception):
    """The root of everything that the client raises."""


class ServiceUnreachable(ClientError):
    """No connection came about: nobody listens, or the service turned us away before the first message."""


class ConnectionLost(ClientError):
    """The connection is over. ``close_code`` is the WebSocket close code, None if there was no close."""

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class PlayerUnavailable(ClientError):
    """Nothing can be played here: a package or a sound card is missing. The message says which."""


class ServiceError(ClientError):
    """The service answered with an ``error``; its fields are those of the message."""

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.code = error.code
        self.message = error.message
        self.recoverable = error.recoverable
        self.utterance_id = error.utterance_id
        self.retry_after_s = None if error.retry_after_ms is None else error.retry_after_ms / 1000


class UtteranceCancelled(ServiceError):
    """The utterance was cancelled. ``audio_ms`` were sent, ``played_ms`` heard by the client's account.

    ``text_spoken`` and ``text_remaining`` are its text before and after that moment, as the service
    estimates it; None if it does not say.
    """

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__(error)
        self.audio_ms = error.audio_ms
        self.played_ms = error.played_ms
        self.text_spoken = error.text_spoken
        self.text_remaining = error.text_remaining


def failure_of(error: ErrorMessage) -> ServiceError:
    """The exception for an ``error`` message."""
    return UtteranceCancelled(error) if error.code == Cancelled.code else ServiceError(error)


def cancelled_here(utterance_id: str, words: str, played_ms: int | None) -> UtteranceCancelled:
    """For an utterance of which the service knows nothing, or nothing any more."""
    return UtteranceCancelled(
        ErrorMessage(
            code=Cancelled.code,
            message=words,
            recoverable=Cancelled.recoverable,
            utterance_id=utterance_id,
            audio_ms=0,
            played_ms=played_ms,
        )
    )
