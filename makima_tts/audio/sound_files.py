"""Sound files as samples, whatever recorded them: libsndfile reads the plain kinds, FFmpeg all others.

In: a file that anyone may have made. Out: a :class:`Recording`, read block by block, or InvalidClip. Does not
know: which lengths, rates and channels are allowed.

The first bytes choose the demuxer from a fixed list; file names and media types are never asked.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import soundfile

from makima_tts.errors import InvalidClip

Samples = npt.NDArray[np.float32]
Result = TypeVar("Result")

ALLOWED = (
    "Allowed: WAV, AIFF, CAF, FLAC, MP3, AAC, M4A, MP4, 3GP, WebM, Ogg or AMR of 3 to 60 s, 8 to 192 kHz, "
    "1 to 8 channels."
)
_UNREADABLE = f"This is not a sound file that can be read here, or it is damaged or empty. {ALLOWED}"

_BLOCK_FRAMES = 65_536
_MAX_JUNK_BYTES = 64 * 1024
# libsndfile calls back for every few bytes of a header. FFmpeg may need an index and a cover picture.
_MAX_PLAIN_HEADER_BYTES = 128 * 1024
_MAX_HEADER_BYTES = 3 * 2**20
_SEEK_COSTS_BYTES = 64
_TAIL_BYTES = 128 * 1024  # the last Ogg page, which has at most 64 KiB, is within it
_MAX_TAGS = 8
# Writers that cannot seek back leave 0, or about the largest number, as the size.
_UNKNOWN_SIZE = 0x7F00_0000


@dataclass(slots=True)
class Recording:
    """``blocks``: float32 [frames, channels], once. ``stated_frames``: by its header; 0 if that does not say.

    ``damaged``: it is cut off, or a part of it could not be decoded; final after the last block.
    """

    sample_rate_hz: int
    channels: int
    stated_frames: int
    blocks: Iterator[Samples]
    damaged: bool = False


class UnreadableSound(Exception):
    """One of the two libraries cannot read the file."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """``demuxer``: FFmpeg's name. ``plain``: libsndfile is tried first. ``states_length``: in its header."""

    magic: bytes
    demuxer: str
    plain: bool = False
    states_length: bool = True


_KINDS = (
    # libsndfile's MP3 decoder writes to standard error.
    _Kind(rb"RIFF....WAVE.{,1000}fmt ....[\x50\x55]\0", "wav"),
    _Kind(rb"(RIFF|RIFX|RF64|BW64)....WAVE", "wav", plain=True),
    _Kind(rb"FORM....AIF[FC]", "aiff", plain=True),
    _Kind(rb"fLaC", "flac", plain=True),
    _Kind(rb"OggS", "ogg", plain=True, states_length=False),
    _Kind(rb"....(ftyp|moov|mdat|wide|free|skip|pnot)", "mov"),
    _Kind(rb"\x1a\x45\xdf\xa3", "matroska"),
    _Kind(rb"caff\x00\x01", "caf"),
    _Kind(rb"#!AMR", "amr", states_length=False),
    _Kind(rb"\xff[\xf0\xf1\xf8\xf9]", "aac", states_length=False),
)
# MPEG audio, layer III: kilobits per second by version and bit rate index, samples per second by version.
_MP3_FRAME = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]", re.DOTALL)
_MP3_KBPS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_FRAMES_IN_A_ROW = 4


def decode(file: BinaryIO, read: Callable[[Recording], Result]) -> Result:
    """The result of ``read``, which is called again if the first library gives up halfway.

    Raises InvalidClip, and what ``read`` raises.
    """
    kind, start_bytes = _kind_of(file)
    cut_off = _is_cut_off(file, kind)
    for open_sound, max_header_bytes in _readers(kind):
        window = Window(file, start_bytes, max_header_bytes)
        with suppress(UnreadableSound), open_sound(window) as sound:
            window.left_bytes = sys.maxsize
            sound.damaged = cut_off
            return read(sound)
    raise InvalidClip(_UNREADABLE)


class Window:
    """A file from ``start_bytes`` on, as libraries get it: without a name, which may be taken for an address.

    It ends once ``left_bytes`` were read, so that a header of millions of empty parts takes little time.
    Seeking costs, too.
    """

    def __init__(self, file: BinaryIO, start_bytes: int, left_bytes: int) -> None:
        self._file, self._start_bytes, self.left_bytes = file, start_bytes, left_bytes
        self.seek(0)

    def read(self, size_bytes: int) -> bytes:
        content = self._file.read(min(size_bytes, self.left_bytes))
        self.left_bytes -= len(content)
        return content

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        self.left_bytes = max(0, self.left_bytes - _SEEK_COSTS_BYTES)
        if whence == os.SEEK_SET:
            position += self._start_bytes
        elif whence == os.SEEK_CUR:
            position += self._file.tell()
        else:
            position += self._file.seek(0, os.SEEK_END)
        return self._file.seek(max(self._start_bytes, position)) - self._start_bytes

    def tell(self) -> int:
        return self._file.tell() - self._start_bytes


def _kind_of(file: BinaryIO) -> tuple[_Kind, int]:
    """By its first bytes, or by those after ID3 tags, which any kind may have; and where it begins."""
    offset_bytes = 0
    for _ in range(_MAX_TAGS):
        file.seek(offset_bytes)
        head = file.read(_MAX_JUNK_BYTES)
        if not (tag := re.match(rb"ID3...([\0-\x7f]{4})", head, re.DOTALL)):
            break
        # Of each of the four bytes, seven bits count.
        offset_bytes += 10 + sum(byte << shift for byte, shift in zip(tag[1], (21, 14, 7, 0), strict=True))
    for kind in _KINDS:
        if re.match(kind.magic, head, re.DOTALL):
            return kind, offset_bytes
    kind, junk_bytes = _find_mp3(head)
    return kind, offset_bytes + junk_bytes


def _find_mp3(head: bytes) -> tuple[_Kind, int]:
    """MP3 has no magic bytes, and may begin after anything; a few frames in a row tell it from noise.

    Not read by libsndfile, which demands a frame at the beginning, and writes to standard error.
    """
    for found in _MP3_FRAME.finditer(head):
        end = found.start()
        for _ in range(_MP3_FRAMES_IN_A_ROW):
            if not _MP3_FRAME.match(head, end) or not (size_bytes := _mp3_frame_bytes(head[end : end + 3])):
                break
            end += size_bytes
        else:
            # A first frame without sound states the number of frames; FFmpeg estimates it else.
            stated = re.compile(rb".{8,40}(Xing|Info|VBRI)", re.DOTALL).match(head, found.start())
            return _Kind(b"", "mp3", states_length=stated is not None), found.start()
    raise InvalidClip(_UNREADABLE)


def _mp3_frame_bytes(header: bytes) -> int:
    """0 for a frame that does not say."""
    version, rate_index = header[1] >> 3 & 3, header[2] >> 2 & 3
    if rate_index == 3:
        return 0
    kbps = _MP3_KBPS[version | 2][header[2] >> 4]
    samples_per_byte = 144_000 if version == 3 else 72_000
    return samples_per_byte * kbps // _MP3_RATES_HZ[version][rate_index] + (header[2] >> 1 & 1)


def _is_cut_off(file: BinaryIO, kind: _Kind) -> bool:
    """Whether the file ends before the size at its beginning, or within an Ogg page."""
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0 if kind.demuxer != "ogg" else max(0, file_bytes - _TAIL_BYTES))
    if kind.demuxer in ("wav", "aiff"):
        head = file.read(28)
        order: Literal["big", "little"] = "big" if head[:4] in (b"FORM", b"RIFX") else "little"
        large = head[:4] in (b"RF64", b"BW64")  # their size stands in the first chunk
        # A byte of padding may be missing.
        return file_bytes - 7 < int.from_bytes(head[20:28] if large else head[4:8], order) < _UNKNOWN_SIZE
    if kind.demuxer == "ogg":
        page = (tail := file.read())[tail.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
        return len(page) < 27 + len(segments) + sum(segments)
    return False


def _readers(kind: _Kind) -> Iterator[tuple[Callable[[Window], AbstractContextManager[Recording]], int]]:
    """What opens it, and how many bytes that may read before the first samples."""
    if kind.plain:
        yield _open_plain, _MAX_PLAIN_HEADER_BYTES
    from makima_tts.audio.demuxing import open_demuxed  # noqa: PLC0415 - loads FFmpeg

    yield (
        partial(open_demuxed, demuxer=kind.demuxer, states_length=kind.states_length),
        _MAX_HEADER_BYTES,
    )


@contextmanager
def _open_plain(file: Window) -> Iterator[Recording]:
    """By libsndfile. Raises UnreadableSound, also while the blocks are read."""
    try:
        with soundfile.SoundFile(file) as sound:
            # A WAV of unknown length has no frames for libsndfile.
            if sound.frames > 0:
                yield Recording(sound.samplerate, sound.channels, sound.frames, _plain_blocks(sound))
                return
    except soundfile.LibsndfileError as error:
        raise UnreadableSound from error
    raise UnreadableSound


def _plain_blocks(sound: soundfile.SoundFile) -> Iterator[Samples]:
    while (block := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)).size:
        yield block
