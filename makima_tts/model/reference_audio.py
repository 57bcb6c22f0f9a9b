"""A clip as both encoders need it: 24 kHz, silence after it; and in what slices they compute.

In: mono samples at any rate. Out: a tensor; the size of slices. Does not know: files, encoders, voices.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.errors import InvalidClip

RATE_HZ = 24_000
# Without it, the end of the reference is audible at the beginning of the voice's speech.
APPENDED_SILENCE_S = 0.5


@dataclass(slots=True)
class SliceBudget:
    """Work after which an encoder yields, so that utterances go on. ``budget``: multiply-adds in a slice."""

    budget: int
    spent: int = 0

    def rows(self, work_per_row: int) -> int:
        """How many rows fill a slice; at least one."""
        return max(1, self.budget // work_per_row)

    def spend(self, work: int) -> bool:
        """Count this work. True when it fills the slice, and the next one begins."""
        self.spent += work
        if self.spent < self.budget:
            return False
        self.spent = 0
        return True


def with_silence(pcm: Tensor, silence_s: float = APPENDED_SILENCE_S) -> Tensor:
    """float32 [samples] at 24 kHz → the same, longer."""
    return F.pad(pcm, (0, round(silence_s * RATE_HZ)))


def prepare_reference(pcm: npt.NDArray[np.float32], sample_rate_hz: int) -> Tensor:
    """float32 [samples] → float32 [samples] at 24 kHz, on the CPU.

    Resampled as ``librosa.resample`` does by default (libsoxr, high quality, the length rounded up), as
    ``qwen-tts`` 0.1.1 does with reference audio. Raises InvalidClip when there is no sample.
    """
    if not pcm.size:
        raise InvalidClip("The reference audio holds no sound.")
    mono = np.ascontiguousarray(pcm, np.float32)
    if sample_rate_hz == RATE_HZ:
        return torch.from_numpy(mono)
    resampled = soxr.resample(mono, sample_rate_hz, RATE_HZ, quality="HQ")
    exact = np.zeros(ceil(mono.size * (RATE_HZ / sample_rate_hz)), np.float32)
    kept = min(exact.size, resampled.size)
    exact[:kept] = resampled[:kept]
    return torch.from_numpy(exact)
