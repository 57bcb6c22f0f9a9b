"""Speech whose words begin and end at known times: spoken one by one by the preview engine, and joined."""

from functools import cache

import numpy as np
import numpy.typing as npt
from hibari import Hibari

RATE_HZ = 24_000
GAP_S = 0.05
_AUDIBLE = 0.01


@cache
def _voice() -> Hibari:
    return Hibari()


@cache
def _word(word: str) -> npt.NDArray[np.float32]:
    pcm = _voice()(word + ".", seed=0)
    audible = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
    found: npt.NDArray[np.float32] = pcm[audible[0] : audible[-1]]
    return found


def joined(words: list[str], gap_s: float = GAP_S) -> tuple[npt.NDArray[np.int16], list[tuple[float, float]]]:
    """Samples, and begin and end of each word in seconds."""
    gap = np.zeros(round(gap_s * RATE_HZ), np.float32)
    parts, times_s, at = [], [], 0
    for word in words:
        pcm = _word(word)
        parts += [gap, pcm]
        at += gap.size
        times_s.append((at / RATE_HZ, (at + pcm.size) / RATE_HZ))
        at += pcm.size
    noise = np.random.default_rng(0).normal(0, 1e-4, at + gap.size)
    speech = np.concatenate([*parts, gap]) + noise
    return (np.clip(speech, -1, 1) * 32767).astype(np.int16), times_s
