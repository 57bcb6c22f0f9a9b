"""From an engine's samples to a stream that a player, a telephone or a file takes.

In: samples at the engine's rate, in any split; a format. Out: the bytes of one stream, its header first; or
InvalidMessage for a rate that the format does not have. Does not know: routes, clients.
"""

import struct
from typing import Literal, Protocol

from makima_tts.audio.pcm import G711_RATE_HZ, Pcm, PcmEncoder, PcmEncoding
from makima_tts.errors import InvalidMessage

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
