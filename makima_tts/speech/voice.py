"""A voice as an engine sees it: a reference to encode, and what encoding it yields.

In: reference audio and its transcript. Out: a VoicePrompt. Does not know: folders, caches, voice ids'
owners. Tensors are numpy arrays so that they can be kept as safetensors without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

# icl: cloning with the transcript, closest to the speaker; xvector: from the speaker embedding alone.
CloneMode = Literal["icl", "xvector"]


@dataclass(frozen=True, slots=True)
class VoiceReference:
    """What is encoded. ``pcm``: float32 [samples], mono, in -1…1, at ``sample_rate_hz``."""

    pcm: npt.NDArray[np.float32] = field(repr=False)
    sample_rate_hz: int
    transcript: str | None = field(repr=False)
    language: str
    mode: CloneMode


@dataclass(slots=True)
class EngineShare:
    """What the engine keeps of a voice beside its prompt: written by the engine alone, read by anybody."""

    size_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class VoicePrompt:
    """An encoded voice. ``tensors`` belong to the engine that made them, named by its ``fingerprint``.

    Whoever may speak with it holds it; an engine keeps what it makes of it for as long as somebody does.
    """

    fingerprint: str
    tensors: Mapping[str, npt.NDArray[np.generic]] = field(repr=False)
    engine_share: EngineShare = field(default_factory=EngineShare, init=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """All that is in memory because of it; grows when an engine speaks with it."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + self.engine_share.size_bytes
