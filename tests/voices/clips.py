"""Sound files for tests.

In: a length, a rate, a kind. Out: files whose sound is like speech in what is measured of it: syllables,
pauses, a little noise. Does not know: what is tested.
"""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
import soundfile

TRANSCRIPT = "The keeper climbed the stairs and looked out over the water."

Pcm = npt.NDArray[np.float32]


def speech(duration_s: float = 6.0, rate_hz: int = 24_000, *, pitch_hz: float = 140.0) -> Pcm:
    """float32 [samples] at about -20 dBFS, with a pause of 0.2 s in every second."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in (1, 2, 3))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time_s), 0, None) * (time_s % 1 < 0.8)
    noise = np.random.default_rng(1).standard_normal(time_s.size) * 0.0005
    return np.asarray(0.25 * tone * syllables + noise, np.float32)


def silence(duration_s: float, rate_hz: int = 24_000) -> Pcm:
    """float32 [samples], all zero."""
    return np.zeros(round(duration_s * rate_hz), np.float32)


def sound_file(pcm: Pcm, rate_hz: int = 24_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """``pcm``: [samples] or [samples, channels]."""
    file = io.BytesIO()
    soundfile.write(file, pcm, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


@cache
def good_clip(pitch_hz: float = 140.0) -> bytes:
    """Six seconds without a warning."""
    return sound_file(speech(pitch_hz=pitch_hz))
