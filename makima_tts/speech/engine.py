"""The SpeechEngine protocol: what every engine promises, checked by one shared conformance suite.

In: voices and utterances. Out: facts, health, streams of audio. Does not know: how any engine does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from makima_tts.errors import InvalidText, VoiceNotFound
from makima_tts.speech.stream import SpeechStream

# The model chooses the language by the text. Clients use the same word.
ANY_LANGUAGE = "Auto"
# icl: cloning with the transcript, closest to the speaker; xvector: from the speaker embedding alone.
CloneMode = Literal["icl", "xvector"]


@dataclass(frozen=True, slots=True)
class VoiceReference:
    """A clip to encode. ``pcm``: float32 [samples], mono, in -1…1, at ``sample_rate_hz``."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    sample_rate_hz: int
    transcript: str | None = field(repr=False)
    language: str
    mode: CloneMode


@dataclass(slots=True)
class EngineShare:
    """Memory that the engine uses for a voice, besides its prompt. Only the engine writes it."""

    size_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class VoicePrompt:
    """An encoded voice. ``tensors``, as numpy arrays: they can be stored without torch. They belong to the
    engine that has this ``fingerprint``.

    Utterances and the voice cache hold it; an engine keeps its own copy of the voice for as long as they do.
    """

    fingerprint: str
    tensors: Mapping[str, npt.NDArray[np.generic]] = field(repr=False)
    engine_share: EngineShare = field(default_factory=EngineShare, init=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """All memory that it uses; grows when an engine speaks with it."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + self.engine_share.size_bytes


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine is and can do; before it is loaded, as far as that does not depend on its model.

    ``languages`` are English names. ``text_streaming``: it speaks while the text is incomplete.
    ``fingerprint`` names what a VoicePrompt depends on (model and revision). ``note`` is one sentence for
    people: what this engine is, and what it cannot do. ``kernels``: the implementation of each family of leaf
    operations, for an engine that has several.
    """

    name: str
    model: str
    fingerprint: str
    sample_rate_hz: int
    languages: tuple[str, ...]
    cloning: bool
    text_streaming: bool
    note: str
    kernels: Mapping[str, str] = field(default_factory=dict)


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
    iteration; a failing utterance fails no other.
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
