"""The spectrogram that the speaker encoder listens to.

In: samples at 24 kHz. Out: log energies in mel bands, in slices of work. Does not know: speakers.

T spectrogram frames · N samples in a window · B mel bands.

The source is ``mel_spectrogram`` of ``qwen-tts`` 0.1.1 with the numbers that its
``extract_speaker_embedding`` hands over; they are in no configuration file.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from math import log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.model.pace import Pace

RATE_HZ = 24_000
WINDOW_SAMPLES = 1024
HOP_SAMPLES = 256
_HIGHEST_HZ = 12_000.0
_EDGE_SAMPLES = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
_LEAST_POWER = 1e-9
_LEAST_ENERGY = 1e-5

# Slaney's Auditory Toolbox (1998): even steps up to 1 kHz, equal ratios from there on.
_HZ_PER_MEL = 200.0 / 3
_BEND_HZ = 1000.0
_BEND_MEL = _BEND_HZ / _HZ_PER_MEL
_LOG_PER_MEL = log(6.4) / 27

# Multiply-adds that a frame takes, the transform's among them.
_WORK_PER_FRAME = 200_000

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MelSpectrogram:
    """``window``: [N]. ``filters``: [N / 2 + 1, B]."""

    window: Tensor = field(repr=False)
    filters: Tensor = field(repr=False)

    @classmethod
    def of(cls, bands: int, device: torch.device) -> "MelSpectrogram":
        window = torch.hann_window(WINDOW_SAMPLES, device=device)
        return cls(window, torch.from_numpy(mel_filters(bands)).to(device).T)

    def __call__(self, pcm: Tensor, pace: Pace) -> Generator[None, None, Tensor]:
        """float32 [samples] → float32 [T, B], with one frame for every whole 256 samples.

        Needs more than 384 samples, which are mirrored at both ends.
        """
        frames = mirrored(pcm, _EDGE_SAMPLES, _EDGE_SAMPLES).unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)  # [T, N]
        parts = []
        for part in torch.split(frames, pace.rows(_WORK_PER_FRAME)):
            parts.append(self._log_energies(part))
            if pace.full(len(part) * _WORK_PER_FRAME):
                yield
        return torch.cat(parts)

    def _log_energies(self, frames: Tensor) -> Tensor:
        """[T, N] → [T, B]."""
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window))  # [T, N / 2 + 1, 2]
        magnitude = (spectrum.square().sum(-1) + _LEAST_POWER).sqrt()  # [T, N / 2 + 1]
        return (magnitude @ self.filters).clamp(min=_LEAST_ENERGY).log()


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """[T, …] → [before + T + after, …]: the ends are reflected, their outermost value not repeated.

    T must be larger than either.
    """
    if not before and not after:
        return x
    return torch.cat((x[1 : before + 1].flip(0), x, x[len(x) - 1 - after : len(x) - 1].flip(0)))


def mel_filters(bands: int) -> npt.NDArray[np.float32]:
    """Triangles of equal area between 0 Hz and 12 kHz: float32 [B, N / 2 + 1].

    Those of ``librosa.filters.mel`` with its defaults (Slaney's scale, Slaney's norm), to the last bit.
    """
    edges = _hz_of(np.linspace(0.0, _mel_of(_HIGHEST_HZ), bands + 2))
    distances = edges[:, None] - np.fft.rfftfreq(WINDOW_SAMPLES, 1 / RATE_HZ)  # [B + 2, N / 2 + 1]
    widths = np.diff(edges)[:, None]
    rising, falling = -distances[:-2] / widths[:-1], distances[2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    areas = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * areas[:, None]).astype(np.float32)


def _mel_of(hz: float) -> float:
    """Of a frequency above the bend."""
    return _BEND_MEL + log(hz / _BEND_HZ) / _LOG_PER_MEL


def _hz_of(mels: Array) -> Array:
    high = _BEND_HZ * np.exp(_LOG_PER_MEL * (mels - _BEND_MEL))
    return np.where(mels < _BEND_MEL, mels * _HZ_PER_MEL, high)
