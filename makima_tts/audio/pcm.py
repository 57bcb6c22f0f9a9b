"""From an engine's samples to the bytes that a listener asked for.

In: samples at the engine's rate, float32 in -1…1 or 16-bit integers, in any split. Out: mono little-endian
PCM, or G.711, at the listener's rate and speed. Does not know: frames of a wire, containers, who listens.
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from makima_tts.audio.companding import compand
from makima_tts.audio.resample import StreamingResampler
from makima_tts.errors import SynthesisError

# From -1 to 1, or whole numbers from -32767 to 32767.
Pcm = npt.NDArray[np.float32] | npt.NDArray[np.int16]
# The protocol's names; this layer lies below it.
PcmEncoding = Literal["pcm16", "pcm32f", "mulaw", "alaw"]

# Symmetrical: -1 and +1 are equally far from 0, and 0 stays 0. -32768 is never used.
_PCM16_FULL_SCALE = 32767
_NOTHING = np.zeros(0, np.float32)


class PcmEncoder:
    """One utterance's samples → bytes; a new utterance needs a new encoder.

    ``pcm16`` is clipped at full scale and rounded to the nearest, before G.711 too; ``pcm32f`` has headroom
    and is neither. Any split of the samples gives the same bytes.
    """

    def __init__(
        self, source_rate_hz: int, rate_hz: int, encoding: PcmEncoding, *, speed: float = 1.0
    ) -> None:
        self._stages = _stages(source_rate_hz, rate_hz, speed)
        self._encoding = encoding
        self._as_they_are = encoding == "pcm16" and not self._stages

    def encode(self, pcm: Pcm) -> bytes:
        """[n] → whole samples, fewer or more than came in, as the stages let them go.

        Raises SynthesisError for NaN or Inf.
        """
        if pcm.dtype == np.int16 and self._as_they_are:
            return pcm.astype("<i2", copy=False).tobytes()
        samples = as_float(pcm)
        _require_numbers(samples)
        for stage in self._stages:
            samples = stage.push(samples)
        return self._to_bytes(samples)

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""
        rest = _NOTHING
        for stage in self._stages:
            rest = np.concatenate([stage.push(rest), stage.flush()])
        return self._to_bytes(rest)

    def _to_bytes(self, pcm: npt.NDArray[np.float32]) -> bytes:
        # Again, since finite samples near the largest float overflow in the stages' filters.
        _require_numbers(pcm)
        if self._encoding == "pcm32f":
            return pcm.astype("<f4", copy=False).tobytes()
        whole_numbers = np.rint(np.clip(pcm, -1.0, 1.0) * _PCM16_FULL_SCALE).astype("<i2")
        if self._encoding == "pcm16":
            return whole_numbers.tobytes()
        return compand(whole_numbers, self._encoding)


class _Stage(Protocol):
    """What sound passes through; see StreamingResampler."""

    def push(self, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...

    def flush(self) -> npt.NDArray[np.float32]: ...


def _stages(source_rate_hz: int, rate_hz: int, speed: float) -> list[_Stage]:
    """None where nothing changes: the samples pass untouched."""
    stages: list[_Stage] = []
    if speed != 1.0:
        from makima_tts.audio.time_stretch import StreamingStretch  # noqa: PLC0415 - loads FFmpeg

        stages.append(StreamingStretch(source_rate_hz, speed))
    if rate_hz != source_rate_hz:
        stages.append(StreamingResampler(source_rate_hz, rate_hz))
    return stages


def as_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Samples of 16 bits from -1 to 1; others as they are."""
    samples = pcm.astype(np.float32, copy=False)
    return samples / np.float32(_PCM16_FULL_SCALE) if pcm.dtype == np.int16 else samples


def _require_numbers(pcm: npt.NDArray[np.float32]) -> None:
    if not np.isfinite(pcm).all():
        raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
