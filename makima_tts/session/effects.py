"""Effects of a session, performed in order by the connection around it.

In: nothing. Out: plain values. Does not know: how they are performed.
"""

from dataclasses import dataclass, field

from makima_tts.protocol import AudioFormat, ServerMessage


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text frame."""

    message: ServerMessage


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Send a binary frame of whole samples."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoadVoice:
    """Load a voice for ``start``; VoiceLoaded answers it. Replaces an earlier one without an answer."""

    voice: str | None


@dataclass(frozen=True, slots=True)
class StartSpeech:
    """Open an utterance with the engine; answered by AudioReady…, then SpeechEnded or SpeechFailed.

    ``voice`` None is the session's voice; a name means that voice or VOICE_NOT_FOUND. ``timings``: AudioReady
    tells when each word is spoken.
    """

    utterance_id: str
    voice: str | None
    language: str
    seed: int | None
    format: AudioFormat
    timings: bool = False


@dataclass(frozen=True, slots=True)
class FeedPiece:
    """Give the engine a piece of text, or the next section of one: the sections joined are the piece.

    Sections end where words end; the last one may be empty. FinishText ends a piece that is still open.
    """

    utterance_id: str
    text: str = field(repr=False)
    ends_piece: bool = True


@dataclass(frozen=True, slots=True)
class FinishText:
    """Tell the engine that no more text follows."""

    utterance_id: str


@dataclass(frozen=True, slots=True)
class CancelSpeech:
    """Stop this utterance in the engine now; the session ignores later reports about it."""

    utterance_id: str


@dataclass(frozen=True, slots=True)
class JoinContract:
    """Register this session under a contract, or (None) under none."""

    contract_id: str | None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time. Replaces an earlier WakeAt."""

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
