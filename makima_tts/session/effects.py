"""What the session asks of the shell around it.

In: nothing. Out: plain values, performed in order. Does not know: how they are performed.
"""

from dataclasses import dataclass, field

from makima_tts.protocol import AudioFormat, ServerMessage


@dataclass(frozen=True, slots=True)
class Send:
    """A text frame."""

    message: ServerMessage


@dataclass(frozen=True, slots=True)
class SendAudio:
    """A binary frame of whole samples."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoadVoice:
    """Resolve a voice for ``start``; answered by VoiceLoaded. Takes the place of one not answered yet."""

    wanted: str | None


@dataclass(frozen=True, slots=True)
class StartSpeech:
    """Open an utterance with the engine; answered by AudioReady…, then SpeechEnded or SpeechFailed.

    ``voice`` None is the session's voice; a name means that voice or VOICE_NOT_FOUND.
    """

    utterance_id: str
    voice: str | None
    language: str
    seed: int | None
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class FeedPiece:
    """A piece, or the next part of one: their texts, put together, are the piece. Parts are cut where words
    end; the last one may be empty. FinishText ends a piece that is still open.
    """

    utterance_id: str
    text: str = field(repr=False)
    ends_piece: bool = True


@dataclass(frozen=True, slots=True)
class FinishText:
    utterance_id: str


@dataclass(frozen=True, slots=True)
class CancelSpeech:
    """Silence it now; what it still reports is dropped."""

    utterance_id: str


@dataclass(frozen=True, slots=True)
class JoinContract:
    """This session belongs to this contract from now on, or (None) to none."""

    contract_id: str | None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time (replacing any earlier wish)."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class UtteranceEnded:
    """For metrics. ``outcome`` is ``complete`` or an error code; figures are None where there are none."""

    outcome: str
    audio_ms: int
    queue_ms: int | None
    ttfa_ms: int | None
    rtf: float | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, after everything that was sent."""

    code: int


Effect = (
    Send
    | SendAudio
    | LoadVoice
    | StartSpeech
    | FeedPiece
    | FinishText
    | CancelSpeech
    | JoinContract
    | WakeAt
    | UtteranceEnded
    | Close
)
