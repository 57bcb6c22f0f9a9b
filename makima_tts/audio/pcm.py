"""From an engine's samples to PCM bytes at the requested rate, speed and encoding.

In: samples at the engine's rate, float32 in -1…1 or int16, in any split; a format. Out: mono little-endian
PCM or G.711, or a format of :mod:`makima_tts.audio.compressed`. Does not know: utterances, the wire.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import soxr

from makima_tts.errors import SynthesisError

if TYPE_CHECKING:
    from makima_tts.audio.time_stretch import StreamingStretch

import struct
from typing import Protocol

from makima_tts.errors import InvalidMessage

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


OutputFormat = Literal["wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"]
# The G.711 formats have no header: audio/basic is μ-law at 8 kHz by definition, audio/PCMA the A-law of RTP.
MEDIA_TYPES: dict[OutputFormat, str] = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "flac": "audio/flac",
    "aac": "audio/aac",
    "mulaw": "audio/basic",
    "alaw": "audio/PCMA",
}

_DEFAULT_RATE_HZ = 24_000
# Formats that do not support all rates of the service.
_RATES_HZ: dict[OutputFormat, tuple[int, ...]] = {
    "opus": (8_000, 16_000, 24_000, 48_000),
    "mulaw": (G711_RATE_HZ,),
    "alaw": (G711_RATE_HZ,),
}


class SpeechEncoder(Protocol):
    """One stream; a new stream needs a new encoder. Any split of the samples gives the same bytes."""

    def encode(self, pcm: Pcm) -> bytes:
        """[n] → the bytes that are final; may be none. Raises SynthesisError for NaN or Inf."""

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""


def rate_of(output_format: OutputFormat, requested_hz: int | None) -> int:
    """``requested_hz``, or (None) the format's default. Raises InvalidMessage for an unsupported rate."""
    rates_hz = _RATES_HZ.get(output_format)
    if requested_hz is None:
        return _DEFAULT_RATE_HZ if rates_hz is None or _DEFAULT_RATE_HZ in rates_hz else rates_hz[0]
    if rates_hz is not None and requested_hz not in rates_hz:
        allowed = ", ".join(map(str, rates_hz))
        raise InvalidMessage(f"The sample rate of {output_format} must be one of {allowed}; or leave it out.")
    return requested_hz


def open_encoder(
    output_format: OutputFormat | PcmEncoding, source_rate_hz: int, rate_hz: int, *, speed: float = 1.0
) -> SpeechEncoder:
    """``rate_hz`` is one that :func:`rate_of` allows; ``speed`` is 0.5 to 2."""
    match output_format:
        case "mp3" | "opus" | "flac" | "aac":
            from makima_tts.audio.compressed import CompressedEncoder  # noqa: PLC0415 - loads FFmpeg

            return CompressedEncoder(output_format, source_rate_hz, rate_hz, speed=speed)
        case "wav":
            header = _wav_header(rate_hz)
            return PcmEncoder(source_rate_hz, rate_hz, "pcm16", speed=speed, header=header)
        case "pcm":
            return PcmEncoder(source_rate_hz, rate_hz, "pcm16", speed=speed)
        case _:
            return PcmEncoder(source_rate_hz, rate_hz, output_format, speed=speed)


def _wav_header(sample_rate_hz: int) -> bytes:
    """RIFF/WAVE, mono PCM16, of unknown length (all ones, as players expect of a stream)."""
    shape = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    unknown = b"\xff" * 4
    return b"RIFF" + unknown + b"WAVEfmt " + shape + b"data" + unknown
