"""A clip as both encoders want it: 24 kHz, and silence after it.

In: mono samples at any rate. Out: a tensor. Does not know: files, encoders, voices.
"""

from math import ceil

import numpy as np
import numpy.typing as npt
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.errors import InvalidClip

RATE_HZ = 24_000
# Without it, the end of the reference is heard at the beginning of what the voice says.
APPENDED_SILENCE_S = 0.5


def with_silence(pcm: Tensor, silence_s: float = APPENDED_SILENCE_S) -> Tensor:
    """float32 [samples] at 24 kHz → the same, longer."""
    return F.pad(pcm, (0, round(silence_s * RATE_HZ)))


def prepare_reference(pcm: npt.NDArray[np.float32], sample_rate_hz: int) -> Tensor:
    """float32 [samples] → float32 [samples] at 24 kHz, on the CPU.

    Resampled as ``librosa.resample`` does by default (libsoxr, high quality, the length rounded up), which is
    what ``qwen-tts`` 0.1.1 does to reference audio. Raises InvalidClip when there is no sample.
    """
    if not pcm.size:
        raise InvalidClip("The reference audio holds no sound.")
    return torch.from_numpy(_at_model_rate(pcm, sample_rate_hz))


def _at_model_rate(pcm: npt.NDArray[np.float32], sample_rate_hz: int) -> npt.NDArray[np.float32]:
    mono = np.ascontiguousarray(pcm, np.float32)
    if sample_rate_hz == RATE_HZ:
        return mono
    resampled = soxr.resample(mono, sample_rate_hz, RATE_HZ, quality="HQ")
    exact = np.zeros(ceil(mono.size * (RATE_HZ / sample_rate_hz)), np.float32)
    kept = min(exact.size, resampled.size)
    exact[:kept] = resampled[:kept]
    return exact
