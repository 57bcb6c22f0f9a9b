"""WAV files that are written while their audio arrives, and get their names once they are complete."""

import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from makima_tts.protocol import AudioFormat, Encoding

# WAVE format tags.
_PCM = 1
_TAGS: dict[Encoding, int] = {"pcm16": _PCM, "pcm32f": 3, "alaw": 6, "mulaw": 7}


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Renamed to ``path`` when complete: until then, and after a failure, an older file there stays."""
    unfinished = path.with_name(f".say-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def wav_file(path: Path, audio_format: AudioFormat) -> Iterator[Callable[[bytes], object]]:
    """Writes samples to a mono WAV; its header is rewritten once its length is known."""
    with new_file(path) as unfinished, unfinished.open("wb") as file:
        header_bytes = file.write(wav_header(audio_format, 0))
        yield file.write
        data_bytes = file.tell() - header_bytes
        file.seek(0)
        file.write(wav_header(audio_format, data_bytes))


def wav_header(audio_format: AudioFormat, data_bytes: int) -> bytes:
    """RIFF/WAVE, mono; other encodings than PCM16 need a ``fact`` chunk."""
    width, rate_hz = audio_format.bytes_per_sample, audio_format.sample_rate_hz
    tag = _TAGS[audio_format.encoding]
    shape = struct.pack("<HHIIHH", tag, 1, rate_hz, rate_hz * width, width, 8 * width)
    chunks = b"fmt " + struct.pack("<I", len(shape)) + shape
    if tag != _PCM:
        chunks += b"fact" + struct.pack("<II", 4, data_bytes // width)
    chunks += b"data" + struct.pack("<I", data_bytes)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + data_bytes) + b"WAVE" + chunks
