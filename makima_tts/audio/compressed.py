"""Compressed formats, encoded while speech is generated, by FFmpeg's encoders and containers (PyAV).

In: samples at the engine's rate, in any split. Out: the bytes of one MP3, Ogg Opus, FLAC or ADTS AAC stream.
Does not know: routes, media types, which rates a format has.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Literal
from weakref import finalize

import av
import numpy as np
from av.audio.stream import AudioStream

from makima_tts.audio.pcm import Pcm, PcmEncoder, PcmEncoding

CompressedFormat = Literal["mp3", "opus", "flac", "aac"]


@dataclass(frozen=True, slots=True)
class _Codec:
    """``encoding`` is the encoding of the samples that it takes, ``frame_format`` FFmpeg's name for that."""

    name: Literal["libmp3lame", "libopus", "flac", "aac"]
    container: str
    frame_format: Literal["s16", "s16p", "fltp"]
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)

    @property
    def encoding(self) -> PcmEncoding:
        return "pcm32f" if self.frame_format == "fltp" else "pcm16"


_CODECS: dict[CompressedFormat, _Codec] = {
    # Without tags. The frame that holds a file's length and delay would be written at the end.
    "mp3": _Codec("libmp3lame", "mp3", "s16p", {}, {"id3v2_version": "0", "write_id3v1": "0"}),
    # A page of 20 ms, one packet, instead of one of a second.
    "opus": _Codec("libopus", "ogg", "s16", {}, {"page_duration": "20000"}),
    # Up to level 2 its blocks are of 27 ms, above of 105; its container sets 8 KiB aside for tags.
    "flac": _Codec("flac", "flac", "s16", {"compression_level": "2"}, {"metadata_header_padding": "0"}),
    "aac": _Codec("aac", "adts", "fltp"),
}


class CompressedEncoder:
    """One stream; a new stream needs a new encoder. Any split of the samples gives the same bytes."""

    def __init__(
        self, output_format: CompressedFormat, source_rate_hz: int, rate_hz: int, *, speed: float = 1.0
    ) -> None:
        codec = _CODECS[output_format]
        self._codec, self._rate_hz = codec, rate_hz
        self._pcm = PcmEncoder(source_rate_hz, rate_hz, codec.encoding, speed=speed)
        self._output = bytearray()
        self._position_samples = 0
        # bitexact: the same samples give the same bytes, without random serial numbers or library versions.
        options = {"fflags": "+flush_packets+bitexact", **codec.container_options}
        # Without ``seek``, so that no container returns to its header when the length is known.
        file = SimpleNamespace(write=self._output.extend)
        self._container = av.open(file, "w", format=codec.container, options=options)
        self._stream = self._add_stream()
        # Container and stream refer to each other: without this an abandoned encoder keeps its memory (7 MiB
        # for FLAC) until the next garbage collection.
        finalize(self, self._container.close)

    def encode(self, pcm: Pcm) -> bytes:
        """[n] → the bytes that are final; may be none. Raises SynthesisError for NaN or Inf."""
        self._mux(self._pcm.encode(pcm))
        return self._take()

    def flush(self) -> bytes:
        """The rest; nothing may be encoded after it."""
        self._mux(self._pcm.flush())
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._take()

    def _add_stream(self) -> AudioStream:
        codec = self._codec
        stream = self._container.add_stream(codec.name, rate=self._rate_hz, options=codec.options)
        stream.layout, stream.format = "mono", codec.frame_format
        stream.bit_rate = 128_000 if self._rate_hz > 24_000 else 64_000
        return stream

    def _mux(self, samples: bytes) -> None:
        if not samples:
            return
        array = np.frombuffer(samples, "<f4" if self._codec.encoding == "pcm32f" else "<i2")
        frame = av.AudioFrame.from_ndarray(array[np.newaxis], format=self._codec.frame_format, layout="mono")
        frame.sample_rate, frame.pts = self._rate_hz, self._position_samples
        self._position_samples += array.size
        self._container.mux(self._stream.encode(frame))

    def _take(self) -> bytes:
        encoded = bytes(self._output)
        self._output.clear()
        return encoded
