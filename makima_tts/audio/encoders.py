"""From an engine's samples to a stream that a player or a file takes.

In: samples at the engine's rate, in any split. Out: the bytes of one stream, its header first. Does not
know: routes, who listens.
"""

import struct
from typing import Literal, Protocol

from makima_tts.audio.pcm import Pcm, PcmEncoder

OutputFormat = Literal["wav", "pcm"]
MEDIA_TYPES: dict[OutputFormat, str] = {"wav": "audio/wav", "pcm": "audio/pcm"}

_UNKNOWN_LENGTH = 0xFFFFFFFF
_BYTES_PER_SAMPLE = 2


class SpeechEncoder(Protocol):
    """One stream; a new stream needs a new encoder. Any split of the samples gives the same bytes."""

    def encode(self, pcm: Pcm) -> bytes:
        """[n] → what of the stream became certain; may be nothing. Raises SynthesisError for NaN or Inf."""
        ...

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""
        ...


def open_encoder(wanted: OutputFormat, source_rate_hz: int, rate_hz: int) -> SpeechEncoder:
    """Cheap until the first sample."""
    pcm = PcmEncoder(source_rate_hz, rate_hz, "pcm16")
    return pcm if wanted == "pcm" else _Headed(_wav_header(rate_hz), pcm)


class _Headed:
    """What follows a header."""

    def __init__(self, header: bytes, encoder: SpeechEncoder) -> None:
        self._header, self._encoder = header, encoder

    def encode(self, pcm: Pcm) -> bytes:
        return self._with_header(self._encoder.encode(pcm))

    def flush(self) -> bytes:
        return self._with_header(self._encoder.flush())

    def _with_header(self, data: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + data


def _wav_header(sample_rate_hz: int) -> bytes:
    """RIFF/WAVE, mono PCM16, of a length that nobody knows yet (all ones, as players expect of a stream)."""
    byte_rate = sample_rate_hz * _BYTES_PER_SAMPLE
    shape = struct.pack("<IHHIIHH", 16, 1, 1, sample_rate_hz, byte_rate, _BYTES_PER_SAMPLE, 16)
    unknown = struct.pack("<I", _UNKNOWN_LENGTH)
    return b"RIFF" + unknown + b"WAVEfmt " + shape + b"data" + unknown
