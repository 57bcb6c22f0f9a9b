"""What a session hears besides client messages.

In: nothing. Out: plain values that the shell makes. Does not know: the shell.
"""

from dataclasses import dataclass, field
from typing import Literal

from makima_tts.errors import TtsError
from makima_tts.protocol import ClientMessage


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is no message; ``reason`` is for the client and holds nothing of the frame."""

    reason: str


@dataclass(frozen=True, slots=True)
class EngineLoading:
    stage: str
    progress: float


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The engine can speak, and the voice that sessions get by default is loaded."""

    engine: str
    model: str
    languages: tuple[str, ...]
    cloning: bool
    text_streaming: bool
    voice: str
    voice_loaded: bool


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine could not be loaded, or is down."""

    reason: str


@dataclass(frozen=True, slots=True)
class VoiceLoaded:
    """The voice of ``start``: the first usable in line; ``warning`` when it is not the one asked for."""

    voice: str
    warning: str | None


@dataclass(frozen=True, slots=True)
class AudioReady:
    """Encoded audio.

    ``source_ms`` is how long it is heard, at the speed asked for, reckoned from the engine's samples instead
    of those sent, of which a resampler may hold some back: so positions add up exactly.
    """

    utterance_id: str
    data: bytes = field(repr=False)
    samples: int
    source_ms: float
    piece_index: int
    ends_piece: bool
    synthesis_s: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    utterance_id: str
    reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    utterance_id: str
    error: TtsError


@dataclass(frozen=True, slots=True)
class Tick:
    """The time has come that was asked for by WakeAt."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The service stops: no new utterances; those that are pending may go on until ``until_ms``."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Silence everything in this session, queued too (a contract was interrupted)."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The client is gone: there is nobody to send to."""


EngineReport = (
    EngineLoading | EngineReady | EngineFailed | VoiceLoaded | AudioReady | SpeechEnded | SpeechFailed
)
SessionInput = ClientMessage | Malformed | EngineReport | Tick | Drain | Interrupt | Disconnected
