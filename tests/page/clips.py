"""Writes clips for uploads and for the simulated microphone."""

import wave
from pathlib import Path

import numpy as np

RATE_HZ = 24_000


def write_clip(path: Path, duration_s: float) -> Path:
    """A tone with pauses, like a voice."""
    seconds = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 180 * seconds) * (np.sin(2 * np.pi * seconds) > -0.5)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return path
