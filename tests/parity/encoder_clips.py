"""The clips that both sides encode, generated with the same result on every machine.

In: a case, a seed. Out: samples at 24 kHz, rounded to 16 bits. Does not know: encoders. Imported in both
environments.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RATE_HZ = 24_000
FRAME_SAMPLES = 1920

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipCase:
    """``name`` describes the clip. ``samples``: its length."""

    name: str
    kind: str
    samples: int


# Whole frames; one sample more and one less than whole frames; half frames, for which the encoder's last
# convolution pads differently; and a clip of over ten seconds, the published window of the encoder.
CASES = (
    ClipCase("vibrato_whole", "vibrato", 45 * FRAME_SAMPLES),
    ClipCase("bursts_one_over", "bursts", 40 * FRAME_SAMPLES + 1),
    ClipCase("chirp_one_short", "chirp", 52 * FRAME_SAMPLES - 1),
    ClipCase("vibrato_half", "vibrato", 60 * FRAME_SAMPLES + FRAME_SAMPLES // 2),
    ClipCase("bursts_ragged", "bursts", 8 * RATE_HZ - 777),
    ClipCase("chirp_half", "chirp", 70 * FRAME_SAMPLES + FRAME_SAMPLES // 2 + 1),
    ClipCase("bursts_whole", "bursts", 75 * FRAME_SAMPLES),
    ClipCase("vibrato_long", "vibrato", 11 * RATE_HZ + 1234),
)
# By sample rate: the same samples, declared to have that rate.
RESAMPLED = {
    8_000: ClipCase("from_8_khz", "bursts", 2_411),
    16_000: ClipCase("from_16_khz", "bursts", 4_801),
    44_100: ClipCase("from_44_1_khz", "bursts", 13_229),
    48_000: ClipCase("from_48_khz", "bursts", 14_401),
}


def make_clip(case: ClipCase, seed: int) -> npt.NDArray[np.float32]:
    """float32 [samples]."""
    draw = np.random.Generator(np.random.PCG64(seed))
    time_s = np.arange(case.samples) / RATE_HZ
    sound = _KINDS[case.kind](time_s, draw)
    # Rounding to 16 bits removes last bits of a sine that could differ between machines.
    return (np.round(sound * 32767) / 32768).astype(np.float32)


def _vibrato(time_s: Samples, draw: np.random.Generator) -> Samples:
    """Notes with a few overtones and vibrato, each with its own pitch and loudness."""
    pitch_hz = 90 + 300 * _steps(time_s, draw, 0.16)
    loudness = 0.1 + 0.35 * _steps(time_s, draw, 0.11)
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.02 * np.sin(2 * np.pi * 5.5 * time_s))) / RATE_HZ
    overtones = sum(np.sin(number * phase) / number for number in range(1, 6))
    return loudness * np.asarray(overtones, np.float64) / 2 + 0.02 * (draw.random(time_s.size) - 0.5)


def _bursts(time_s: Samples, draw: np.random.Generator) -> Samples:
    """Bursts of noise, with silence in between."""
    noise = draw.random(time_s.size) * 2 - 1
    darker = np.cumsum(noise - noise.mean()) / 40
    darkness = _steps(time_s, draw, 0.12)
    loudness = np.maximum(0.0, _steps(time_s, draw, 0.09) - 0.2)
    return np.clip(loudness * (darkness * np.clip(darker, -1, 1) + (1 - darkness) * noise), -1, 1)


def _chirp(time_s: Samples, draw: np.random.Generator) -> Samples:
    """Rises from 60 Hz to 9 kHz several times, with changing loudness."""
    turns_s = 0.9 + 0.4 * draw.random()
    pitch_hz = 60 * 150 ** ((time_s % turns_s) / turns_s)
    loudness = 0.1 + 0.6 * _steps(time_s, draw, 0.14)
    return loudness * np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ)


def _steps(time_s: Samples, draw: np.random.Generator, length_s: float) -> Samples:
    """A new value in 0…1 every ``length_s``."""
    levels = draw.random(int(time_s[-1] / length_s) + 1)
    return np.asarray(levels[(time_s / length_s).astype(np.int64)])


_KINDS: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "vibrato": _vibrato,
    "bursts": _bursts,
    "chirp": _chirp,
}
