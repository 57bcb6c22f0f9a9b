"""The client's exceptions. ``code`` is as sent, since a service may be newer and have codes unknown here."""

from makima_tts.errors import Cancelled
from makima_tts.protocol import ErrorMessage


class ClientError(Exception):
    """The root of everything that the client raises.

    ``recoverable``: whether trying again can help; not, for example, with a token that was refused.
    ``retry_after_s``: the wait that the service asked for.
    """

    recoverable: bool = True
    retry_after_s: float | None = None


class ServiceUnreachable(ClientError):
    """No connection: nothing listens there, or the service refused it before the first message."""


class ConnectionLost(ClientError):
    """The connection is over. ``close_code`` is the WebSocket close code, None if there was no close."""

    def __init__(self, message: str, *, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class PlayerUnavailable(ClientError):
    """A package or a sound card is missing; the message says which."""


class ServiceError(ClientError):
    """The service answered with an ``error``; its fields are those of the message.

    ``reason`` is "nothing_to_say" for a text without words.
    """

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.code = error.code
        self.message = error.message
        self.recoverable = error.recoverable
        self.reason = error.reason
        self.utterance_id = error.utterance_id
        self.retry_after_s = None if error.retry_after_ms is None else error.retry_after_ms / 1000


class UtteranceCancelled(ServiceError):
    """The utterance was cancelled. ``audio_ms`` were sent; the client reported ``played_ms`` as played.

    ``text_spoken`` and ``text_remaining`` are its text before and after that position, as the service
    estimates it; None if it does not.
    """

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__(error)
        self.audio_ms = error.audio_ms
        self.played_ms = error.played_ms
        self.text_spoken = error.text_spoken
        self.text_remaining = error.text_remaining


def failure_of(error: ErrorMessage) -> ServiceError:
    return UtteranceCancelled(error) if error.code == Cancelled.code else ServiceError(error)


def cancelled_here(utterance_id: str, message: str, played_ms: int | None) -> UtteranceCancelled:
    """For an utterance that the service does not know (yet, or any more)."""
    return UtteranceCancelled(
        ErrorMessage(
            code=Cancelled.code,
            message=message,
            recoverable=Cancelled.recoverable,
            utterance_id=utterance_id,
            audio_ms=0,
            played_ms=played_ms,
        )
    )
