"""What can be said of a reference clip by measuring it.

In: mono samples. Out: levels, warnings, the :class:`ClipReport`. Does not know: files, voices.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Mending = Literal["mixed down to mono", "removed a DC offset", "cut silence at the ends", "raised the level"]

_WINDOW_S = 0.02
_FLOOR_DBFS = -120.0
# A window this far below the loudest one holds no speech.
_SILENCE_BELOW_DB = 40.0
_NOISY_WITHIN_DB = 20.0
_QUIET_DBFS = -35.0
_ADVISED_S = (5.0, 15.0)
_WIDE_BAND_HZ = 16_000
_SLIGHTLY_CLIPPED = 0.0001
# From slow Chinese to hasty English.
_CHARS_PER_S = (2.0, 30.0)


class ClipReport(BaseModel):
    """A clip as it was sent, and what was done to it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    duration_ms: int = Field(description="Length as sent", examples=[9120])
    used_ms: int = Field(description="Length that is used, after mending", examples=[8400])
    sample_rate_hz: int = Field(alias="sampleRate", description="Samples per second", examples=[48000])
    channels: int = Field(description="1 or 2; two are mixed down", examples=[1])
    level_dbfs: float = Field(description="RMS level, dB below full scale", examples=[-21.4])
    peak_dbfs: float = Field(description="Peak level", examples=[-3.2])
    clipped_ratio: float = Field(description="Share of samples at full scale, 0…1", examples=[0.0])
    noise_floor_dbfs: float = Field(description="Level that the quietest tenth stays below", examples=[-62.0])
    trailing_silence_ms: int = Field(description="Silence at the end, as sent", examples=[720])
    mended: tuple[Mending, ...] = Field(description="What was done to it", examples=[["mixed down to mono"]])
    warnings: tuple[str, ...] = Field(description="What makes the voice worse, and what to do", examples=[[]])


@dataclass(frozen=True, slots=True)
class Level:
    """Of a clip without DC offset."""

    level_dbfs: float
    peak_dbfs: float
    noise_floor_dbfs: float
    leading_silence_s: float
    trailing_silence_s: float


def measure(pcm: npt.NDArray[np.float32], sample_rate_hz: int) -> Level:
    """Without a copy of ``pcm``, which may be large: window by window."""
    if not pcm.size:
        return Level(_FLOOR_DBFS, _FLOOR_DBFS, _FLOOR_DBFS, 0.0, 0.0)
    levels_dbfs = _window_levels(pcm, round(sample_rate_hz * _WINDOW_S))  # [windows]
    loud = np.flatnonzero(levels_dbfs > levels_dbfs.max() - _SILENCE_BELOW_DB)
    return Level(
        level_dbfs=float(_dbfs(np.sqrt(np.mean(10 ** (levels_dbfs / 10))))),
        peak_dbfs=float(_dbfs(np.float64(max(pcm.max(), -pcm.min())))),
        noise_floor_dbfs=float(np.quantile(levels_dbfs, 0.1)),
        leading_silence_s=float(loud[0]) * _WINDOW_S,
        trailing_silence_s=float(levels_dbfs.size - 1 - loud[-1]) * _WINDOW_S,
    )


def clip_warnings(level: Level, used_s: float, sample_rate_hz: int, clipped_ratio: float) -> tuple[str, ...]:
    """What makes the cloned voice worse, and what to do about it."""
    shortest_s, longest_s = _ADVISED_S
    found = {
        f"{used_s:.1f} s of sound; 5 to 15 s work best.": not shortest_s <= used_s <= longest_s,
        "Slightly clipped: record it at a lower level.": clipped_ratio > _SLIGHTLY_CLIPPED,
        "Noisy, or without a pause: record it in a quiet room.": level.level_dbfs - level.noise_floor_dbfs
        < _NOISY_WITHIN_DB,
        "Quiet: record it closer to the microphone.": level.level_dbfs < _QUIET_DBFS,
        "Of telephone quality: record it at 16 kHz or more.": sample_rate_hz < _WIDE_BAND_HZ,
    }
    return tuple(warning for warning, applies in found.items() if applies)


def transcript_warnings(transcript: str | None, used_s: float) -> tuple[str, ...]:
    """A transcript that says more or less than the clip makes the cloned voice stumble."""
    if transcript is None:
        return ()
    slowest, fastest = _CHARS_PER_S
    chars_per_s = len(transcript) / used_s
    if chars_per_s < slowest:
        return ("The transcript is short for this clip: it must hold every word that is said.",)
    if chars_per_s > fastest:
        return ("The transcript is long for this clip: it must hold only what is said.",)
    return ()


def _window_levels(pcm: npt.NDArray[np.float32], window_samples: int) -> npt.NDArray[np.float64]:
    """RMS in dBFS, float64 [windows]; a clip shorter than one window is one window."""
    count = max(1, pcm.size // window_samples)
    windows = pcm[: count * window_samples].reshape(count, -1)  # [windows, samples]
    squares = np.einsum("ws,ws->w", windows, windows, dtype=np.float64)  # [windows]
    return _dbfs(np.sqrt(squares / windows.shape[1]))


def _dbfs(amplitude: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    return np.asarray(20 * np.log10(np.maximum(amplitude, 10 ** (_FLOOR_DBFS / 20))))
