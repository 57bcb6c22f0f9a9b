"""How a connection's client speaks: what its frames mean to a session, and how it hears the answers.

In: frames of a client; messages and audio of a session. Out: inputs of a session; frames to a client. Does
not know: sockets, engines, what a session does.
"""

from collections.abc import Iterable
from typing import Protocol

from makima_tts.api.native.outbox import AnswerFrame, AudioFrame, Frame
from makima_tts.errors import InvalidMessage
from makima_tts.protocol import AudioChunkMessage, parse_client_message, serialize
from makima_tts.session import FeedPiece, Malformed, Send, SendAudio, SessionInput

NOT_TEXT = Malformed("Binary frames mean nothing here; send JSON in text frames.")


class Dialect(Protocol):
    """One for each connection: it may remember what was said."""

    # Whether the session tells it the extended set.
    events: bool

    @property
    def listens(self) -> bool:
        """Whether audio is heard as it is sent, so that nobody needs it long before."""
        ...

    def read(self, text: str | None) -> Iterable[SessionInput | Frame]:
        """What a frame means, and what it is answered with at once. None is a binary frame."""
        ...

    def write(self, effect: Send | SendAudio) -> Iterable[Frame]:
        """What the client hears of it."""
        ...

    def feed(self, effect: FeedPiece) -> FeedPiece | None:
        """What the engine is given now of the text."""
        ...

    async def library_voice(self, asked: str | None) -> str | None:
        """Whom the client means; None is the session's voice. Raises TtsError."""
        ...


class OwnDialect:
    """The protocol itself: docs/protocol.md."""

    listens = True

    def __init__(self, *, events: bool) -> None:
        self.events = events

    def read(self, text: str | None) -> Iterable[SessionInput | Frame]:
        if text is None:
            return [NOT_TEXT]
        try:
            return [parse_client_message(text)]
        except InvalidMessage as error:
            return [Malformed(error.message)]

    def write(self, effect: Send | SendAudio) -> Iterable[Frame]:
        if isinstance(effect, SendAudio):
            return [AudioFrame(effect.data)]
        content = serialize(effect.message)
        audio = isinstance(effect.message, AudioChunkMessage)
        return [AudioFrame(content) if audio else AnswerFrame(content)]

    def feed(self, effect: FeedPiece) -> FeedPiece | None:
        return effect

    async def library_voice(self, asked: str | None) -> str | None:
        return asked
