"""The SpeechEngine protocol: what every engine promises, checked by one shared conformance suite.

In: voices and utterances. Out: facts, health, streams of audio. Does not know: how any engine does it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from makima_tts.errors import InvalidText, VoiceNotFound
from makima_tts.speech.stream import SpeechStream
from makima_tts.speech.voice import VoicePrompt, VoiceReference

# What clients call it, too: whoever speaks finds out by itself.
ANY_LANGUAGE = "Auto"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine is and can do; known before it is loaded, as far as that does not depend on its model.

    ``languages`` are English names. ``text_streaming``: text may still be growing while it speaks.
    ``fingerprint`` names what a VoicePrompt depends on (model and revision). ``note`` is one sentence for
    people: what this engine is, and what it cannot do.
    """

    name: str
    model: str
    fingerprint: str
    sample_rate_hz: int
    languages: tuple[str, ...]
    cloning: bool
    text_streaming: bool
    note: str


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """``progress`` in 0…1, never falling; ``stage`` a few words for people."""

    stage: str
    progress: float


ProgressReport = Callable[[LoadProgress], None]


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """``active``: utterances that are open now. ``reason`` says why it is not ``alive``."""

    alive: bool
    active: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class UtteranceRequest:
    """``voice`` is None for the engine's own voice (the only one of an engine that cannot clone).

    ``language`` is an English name or "Auto". The same ``seed`` gives the same audio.
    """

    utterance_id: str
    language: str = "English"
    voice: VoicePrompt | None = None
    seed: int | None = None


def check_request(facts: EngineFacts, request: UtteranceRequest) -> None:
    """Raises InvalidText and VoiceNotFound as ``SpeechEngine.open`` promises."""
    if request.language not in (*facts.languages, ANY_LANGUAGE):
        raise InvalidText(f"This engine speaks {', '.join(facts.languages)} only.")
    if request.voice is not None and request.voice.fingerprint != facts.fingerprint:
        raise VoiceNotFound("This engine cannot use that voice: it was not encoded by it.")


class SpeechEngine(Protocol):
    """All methods are called on the event loop; none of them blocks it.

    Laws: a stream's audio depends only on its request and its pieces, not on its neighbours or on when the
    pieces came; ``cancel`` works at any moment, is idempotent and frees the engine's resources within one
    step; a failing utterance takes no other with it.
    """

    @property
    def facts(self) -> EngineFacts:
        """Constant from ``start`` on; before, what depends on the model is a guess."""
        ...

    async def start(self, report: ProgressReport) -> None:
        """Load and warm up: returns once one real utterance was synthesized.

        Raises TtsUnavailable when it cannot be loaded.
        """
        ...

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        """Raises VoiceNotFound when the reference cannot be used, or the engine cannot clone."""
        ...

    def open(self, request: UtteranceRequest) -> SpeechStream:
        """Begin an utterance. Raises RateLimited when there is no room, TtsUnavailable when not running.

        Raises InvalidText for a language that is not among ``facts.languages`` (or "Auto"), and VoiceNotFound
        for a voice that was encoded for another engine.
        """
        ...

    def health(self) -> EngineHealth:
        """Cheap; never raises."""
        ...

    async def close(self) -> None:
        """End all utterances (with Cancelled) and free everything. Idempotent."""
        ...
