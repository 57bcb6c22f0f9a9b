"""Inputs of a session besides client messages.

In: nothing. Out: plain values that the connection makes. Does not know: the connection.
"""

from dataclasses import dataclass, field
from typing import Literal

from makima_tts.errors import TtsError
from makima_tts.protocol import ClientMessage
from makima_tts.text.words import WordTime


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is no message; ``reason`` is for the client and holds nothing of the frame.

    ``utterance_id``: the one that it names, if that could be read.
    """

    reason: str
    utterance_id: str | None = None


@dataclass(frozen=True, slots=True)
class EngineLoading:
    """``progress`` in 0…1."""

    stage: str
    progress: float


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The engine can speak, and the default voice of sessions is loaded."""

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
    """The first usable voice for ``start``; ``warning`` says why it is not the requested one."""

    voice: str
    warning: str | None


@dataclass(frozen=True, slots=True)
class AudioReady:
    """Encoded audio.

    ``source_ms`` is its playing time at the requested speed, computed from the engine's samples. ``samples``
    counts the samples to send: a resampler may still hold some, so only ``source_ms`` adds up exactly.
    ``words``: the times of the next words of the utterance; all else may be zero then.
    """

    utterance_id: str
    data: bytes = field(repr=False)
    samples: int
    source_ms: float
    piece_index: int
    ends_piece: bool
    synthesis_s: float
    words: tuple[WordTime, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The engine has generated all audio; ``length``: it stopped at a limit, before the end of the text.

    ``warning``: what it left out, for people.
    """

    utterance_id: str
    reason: Literal["stop", "length"]
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class SpeechFailed:
    """The engine cannot generate this utterance; others are not affected."""

    utterance_id: str
    error: TtsError


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of the last WakeAt has come."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The service stops: no new utterances; pending utterances may go on until ``until_ms``."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Cancel everything in this session: its contract was interrupted."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is closed: nothing can be sent any more."""


EngineReport = (
    EngineLoading | EngineReady | EngineFailed | VoiceLoaded | AudioReady | SpeechEnded | SpeechFailed
)
SessionInput = ClientMessage | Malformed | EngineReport | Tick | Drain | Interrupt | Disconnected
