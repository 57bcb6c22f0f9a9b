"""From an engine's samples to PCM bytes at the requested rate, speed and encoding.

In: samples at the engine's rate, float32 in -1…1 or int16, in any split. Out: mono little-endian PCM, or
G.711. Does not know: containers, utterances, the wire.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import soxr

from makima_tts.errors import SynthesisError

if TYPE_CHECKING:
    from makima_tts.audio.time_stretch import StreamingStretch

# float32 in -1…1, or int16 in -32767…32767.
Pcm = npt.NDArray[np.float32] | npt.NDArray[np.int16]
G711Encoding = Literal["mulaw", "alaw"]
# The protocol's names; this layer lies below it.
PcmEncoding = Literal["pcm16", "pcm32f", G711Encoding]
G711_RATE_HZ = 8000

# Symmetrical: 0 stays 0, and -1 and +1 are equally far from it. -32768 is never used.
_PCM16_FULL_SCALE = 32767
_EMPTY = np.zeros(0, np.float32)

_Bytes = npt.NDArray[np.uint8]
_Int32 = npt.NDArray[np.int32]


class PcmEncoder:
    """One utterance's samples → bytes; a new utterance needs a new encoder.

    ``pcm16`` is clipped at full scale and rounded to the nearest, before G.711 too; ``pcm32f`` has headroom
    and is neither. Any split of the samples gives the same bytes. ``header`` precedes the first of them.
    """

    def __init__(
        self,
        source_rate_hz: int,
        rate_hz: int,
        encoding: PcmEncoding,
        *,
        speed: float = 1.0,
        header: bytes = b"",
    ) -> None:
        self._filters = _filters(source_rate_hz, rate_hz, speed)
        self._encoding = encoding
        self._header = header

    def encode(self, pcm: Pcm) -> bytes:
        """[n] → whole samples, fewer or more than came in, since the filters hold some back.

        Raises SynthesisError for NaN or Inf.
        """
        if pcm.dtype == np.int16 and self._encoding == "pcm16" and not self._filters:
            return self._take_header() + pcm.astype("<i2", copy=False).tobytes()
        samples = as_float(pcm)
        _require_finite(samples)
        for one in self._filters:
            samples = one.push(samples)
        return self._to_bytes(samples)

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""
        rest = _EMPTY
        for one in self._filters:
            rest = np.concatenate([one.push(rest), one.flush()])
        return self._to_bytes(rest)

    def _to_bytes(self, pcm: npt.NDArray[np.float32]) -> bytes:
        # Checked again: finite samples near the largest float overflow in the filters.
        _require_finite(pcm)
        if self._encoding == "pcm32f":
            return self._take_header() + pcm.astype("<f4", copy=False).tobytes()
        pcm16 = np.rint(np.clip(pcm, -1.0, 1.0) * _PCM16_FULL_SCALE).astype("<i2")
        encoded = pcm16.tobytes() if self._encoding == "pcm16" else compand(pcm16, self._encoding)
        return self._take_header() + encoded

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


class StreamingResampler:
    """One stream of sound; a new stream needs a new resampler.

    libsoxr keeps its filter's state and works in blocks of its own: chunks join without clicks, and any
    split of the input gives bit-equal output. From 24 kHz its first output comes after 936 samples (39 ms) of
    input, after 1776 (74 ms) when the target is 8 kHz: every frame of 80 ms yields output at once.
    """

    def __init__(self, source_rate_hz: int, rate_hz: int) -> None:
        self._stream = soxr.ResampleStream(source_rate_hz, rate_hz, 1, dtype="float32", quality="HQ")

    def push(self, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 [n] → the output that is final, float32 [m]; ``m`` may be 0."""
        output: npt.NDArray[np.float32] = self._stream.resample_chunk(np.ascontiguousarray(pcm))
        return output

    def flush(self) -> npt.NDArray[np.float32]:
        """The samples held back, float32 [m]; nothing may be pushed after it.

        In all, ``n`` samples in are ``n * rate_hz / source_rate_hz`` samples out, within one.
        """
        output: npt.NDArray[np.float32] = self._stream.resample_chunk(_EMPTY, last=True)
        return output


def _filters(
    source_rate_hz: int, rate_hz: int, speed: float
) -> "list[StreamingStretch | StreamingResampler]":
    """Empty if neither speed nor rate changes."""
    filters: list[StreamingStretch | StreamingResampler] = []
    if speed != 1.0:
        from makima_tts.audio import time_stretch  # noqa: PLC0415 - loads FFmpeg

        filters.append(time_stretch.StreamingStretch(source_rate_hz, speed))
    if rate_hz != source_rate_hz:
        filters.append(StreamingResampler(source_rate_hz, rate_hz))
    return filters


def as_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    """16-bit samples scaled to -1…1; float samples unchanged."""
    samples = pcm.astype(np.float32, copy=False)
    return samples / np.float32(_PCM16_FULL_SCALE) if pcm.dtype == np.int16 else samples


def _require_finite(pcm: npt.NDArray[np.float32]) -> None:
    if not np.isfinite(pcm).all():
        raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")


def compand(pcm: npt.NDArray[np.int16], law: G711Encoding) -> bytes:
    """G.711: int16 [n] → n bytes, by a lookup table."""
    return _table(law)[pcm.view(np.uint16)].tobytes()


@cache
def _table(law: G711Encoding) -> _Bytes:
    """The byte of every 16-bit sample, indexed by the sample's bits, uint8 [65536]."""
    samples = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    return _mulaw(samples) if law == "mulaw" else _alaw(samples)


def _mulaw(samples: _Int32) -> _Bytes:
    """From 14 bits: sign, three bits of segment, four of mantissa, all inverted."""
    magnitudes = np.minimum(_magnitudes(samples) >> 2, 8158) + 33
    segments = np.frexp(magnitudes)[1] - 6
    mantissas = (magnitudes >> (segments + 1)) & 0x0F
    return _byte(samples, segments, mantissas) ^ np.uint8(0x7F)


def _alaw(samples: _Int32) -> _Bytes:
    """From 13 bits: sign, three bits of segment, four of mantissa, every other bit inverted."""
    magnitudes = _magnitudes(samples) >> 3
    segments = np.maximum(np.frexp(magnitudes)[1] - 5, 0)
    mantissas = (magnitudes >> np.maximum(segments, 1)) & 0x0F
    return _byte(samples, segments, mantissas) ^ np.uint8(0x55)


def _magnitudes(samples: _Int32) -> _Int32:
    """Those of negative samples count from -1, so that both signs have the same steps."""
    return np.where(samples >= 0, samples, ~samples)


def _byte(samples: _Int32, segments: _Int32, mantissas: _Int32) -> _Bytes:
    """The highest bit is set for samples that are not negative."""
    byte = np.where(samples >= 0, 0x80, 0) | segments << 4 | mantissas
    return np.asarray(byte, np.uint8)
