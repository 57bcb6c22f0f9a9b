"""Recordings as phones and programs make them, and files that are not what they seem.

In: samples, FFmpeg's names of containers and codecs. Out: whole files. Does not know: what is tested.
"""

import struct
from fractions import Fraction
from functools import cache
from io import BytesIO
from typing import Any

import av
import numpy as np

from makima_tts.audio import OutputFormat, open_encoder
from tests.voices.clips import Pcm, sound_file, speech

RATE_HZ = 16_000
DURATION_S = 5.0


def recorded(
    container: str,
    codec: str,
    rate_hz: int = RATE_HZ,
    pcm: Pcm | None = None,
    *,
    with_video: bool = False,
    codec_options: dict[str, str] | None = None,
    **options: str,
) -> bytes:
    """``pcm``: [samples] or [samples, channels]; None is speech of ``DURATION_S``."""
    pcm = speech(DURATION_S, rate_hz) if pcm is None else pcm
    file = BytesIO()
    output: Any = av.open(file, "w", format=container, options=options)
    with output:
        picture = output.add_stream("mpeg4", rate=10, width=64, height=64) if with_video else None
        layout = "mono" if pcm.ndim == 1 else "stereo"
        stream = output.add_stream(codec, rate=rate_hz, layout=layout, options=codec_options)
        if picture:
            for number in range(round(len(pcm) / rate_hz * 10)):
                image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
                image.pts, image.time_base = number, Fraction(1, 10)
                output.mux(picture.encode(image))
            output.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "flt", stream.layout.name)
        frame.sample_rate = rate_hz
        size_frames = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.format, stream.layout, rate_hz, size_frames)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            output.mux(stream.encode(part))
    return file.getvalue()


def streamed(output_format: OutputFormat) -> bytes:
    """As this service sends it: its header states no length."""
    encoder = open_encoder(output_format, 24_000, 24_000)
    return encoder.encode(speech(DURATION_S)) + encoder.flush()


def id3_tag(size_bytes: int) -> bytes:
    size = bytes(size_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + bytes(size_bytes)


@cache
def wav() -> bytes:
    """Its header has 44 bytes: sizes at 4 and 40."""
    return sound_file(speech(DURATION_S, RATE_HZ), RATE_HZ)


def sized(riff_bytes: int, data_bytes: int) -> bytes:
    """A WAV that states these sizes."""
    stated = struct.pack("<I", riff_bytes), struct.pack("<I", data_bytes)
    return wav()[:4] + stated[0] + wav()[8:40] + stated[1] + wav()[44:]


def with_chunk(name: bytes, content: bytes, *, padded: bool = True) -> bytes:
    """A WAV with a chunk before its samples."""
    padding = b"\0" * (len(content) % 2) if padded else b""
    return wav()[:36] + name + struct.pack("<I", len(content)) + content + padding + wav()[36:]


def box(name: bytes, *content: bytes) -> bytes:
    """Of an MP4."""
    whole = b"".join(content)
    return struct.pack(">I", 8 + len(whole)) + name + whole


def full_box(name: bytes, *content: bytes, flags: int = 0) -> bytes:
    return box(name, struct.pack(">I", flags), *content)


def mp4(samples: int, reference: bytes, *, ticks: int = 1, tracks: int = 1) -> bytes:
    """Its index states ``samples`` of two bytes each, in what the entry ``reference`` of its dref refers to.

    ``ticks``: of each sample; unless it is 1, FFmpeg has an entry for each.
    """
    rate_hz = 16_000
    entry = box(b"sowt", bytes(6), b"\0\1", bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, rate_hz << 16))
    index = (
        full_box(b"stsd", struct.pack(">I", 1), entry),
        full_box(b"stts", struct.pack(">III", 1, samples, ticks)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        full_box(b"stsz", struct.pack(">II", 2, samples)),
        full_box(b"stco", struct.pack(">II", 1, 0)),
    )
    references = box(b"dinf", full_box(b"dref", struct.pack(">I", 1), reference))
    media = (
        full_box(b"mdhd", bytes(8), struct.pack(">II", rate_hz, rate_hz * 10), bytes(4)),
        full_box(b"hdlr", bytes(4), b"soun", bytes(13)),
        box(b"minf", full_box(b"smhd", bytes(4)), references, box(b"stbl", *index)),
    )
    header = full_box(b"mvhd", bytes(8), struct.pack(">II", 1000, 10_000), bytes(80))
    track = full_box(b"tkhd", bytes(8), struct.pack(">II", 1, 0), bytes(72), flags=3)
    movie = box(b"moov", header, *[box(b"trak", track, box(b"mdia", *media))] * tracks)
    return box(b"ftyp", b"M4A ", bytes(4)) + movie + box(b"mdat", bytes(64_000))


def alias(path: str) -> bytes:
    """An entry of a dref that names a file by its absolute path, as QuickTime writes it."""
    encoded = path.encode() + b"\0" * (len(path) % 2)
    paths = struct.pack(">HH", 2, len(encoded)) + encoded + struct.pack(">HH", 0xFFFF, 0)
    return full_box(b"alis", bytes(150), paths)
