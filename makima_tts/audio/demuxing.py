"""Sound in containers and codecs, read by FFmpeg (PyAV), which is told the demuxer and may open nothing else.

In: a file, and FFmpeg's name of its demuxer. Out: a :class:`Recording`. Does not know: which kinds there are.

Left alone, FFmpeg guesses formats, follows playlists and references to other files, and allocates what a
header asks for: all of that is off. Its decoders run in this process, without a sandbox.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import av
import av._core
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from makima_tts.audio.sound_files import Recording, Samples, UnreadableSound, Window

# A file of 500 bytes may state an index of gigabytes for each stream. An hour of sound has one of 4 MiB. This
# bounds the whole process, and PyAV crashes where an encoder gets no memory: that of FLAC takes 7 MiB.
_MAX_ALLOCATION_BYTES = 16 * 2**20
_MAX_STREAMS = 6
# A minute of the shortest Opus packets are 24,000; a file may have millions of empty ones.
_MAX_PACKETS = 50_000
_MAX_DAMAGED_PACKETS = 1000
_BLOCK_FRAMES = 16_384

_PCM = "u8 s8 s16le s16be s24le s24be s32le s32be f32le f32be f64le f64be alaw mulaw"
_DECODERS = {
    *("aac", "alac", "amrnb", "amrwb", "flac", "mp3", "mp3float", "opus", "speex", "vorbis"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "gsm", "gsm_ms"),
    *(f"pcm_{samples}" for samples in _PCM.split()),
}
OPTIONS = {
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(_DECODERS)),
    "max_streams": str(_MAX_STREAMS),
    "probesize": "65536",
}

# PyAV has no function for it.
_max_alloc = ctypes.CDLL(av._core.__file__).av_max_alloc
_max_alloc.argtypes = [ctypes.c_size_t]
_max_alloc(_MAX_ALLOCATION_BYTES)


@contextmanager
def open_demuxed(file: Window, *, demuxer: str, states_length: bool) -> Iterator[Recording]:
    """The first stream of sound that may be decoded. Raises UnreadableSound."""
    try:
        container = av.open(file, "r", format=demuxer, options=OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableSound from error
    with container:
        # PyAV has no codec context for a codec that FFmpeg does not know.
        streams = [
            stream
            for stream in container.streams.audio
            if getattr(stream.codec_context, "name", None) in _DECODERS
        ]
        if not streams:
            raise UnreadableSound
        yield _sound(container, streams[0], states_length)


def _sound(container: InputContainer, stream: AudioStream, states_length: bool) -> Recording:
    # Only a decoded frame tells the rate and the channels of some kinds of AAC.
    sound = Recording(0, 0, 0, iter(()))
    frames = _frames(container, stream, sound)
    if (first := next(frames, None)) is None:
        raise UnreadableSound
    sound.sample_rate_hz, sound.channels = first.sample_rate, len(first.layout.channels)
    if states_length:
        sound.stated_frames = round(_stated_s(container, stream) * first.sample_rate)
    sound.blocks = _blocks(chain([first], frames), sound)
    return sound


def _stated_s(container: InputContainer, stream: AudioStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _frames(container: InputContainer, stream: AudioStream, sound: Recording) -> Iterator[AudioFrame]:
    """Damaged packets are left out, as players do, unless there are many."""
    damaged = 0
    try:
        for number, packet in enumerate(container.demux()):
            if number == _MAX_PACKETS or damaged == _MAX_DAMAGED_PACKETS:
                raise UnreadableSound
            if packet.stream.index != stream.index:
                continue
            try:
                yield from stream.decode(packet)
            except av.FFmpegError:
                damaged, sound.damaged = damaged + 1, True
    except av.FFmpegError:
        sound.damaged = True


def _blocks(frames: Iterator[AudioFrame], sound: Recording) -> Iterator[Samples]:
    """Several frames each. Frames of another rate or with other channels than the first are damaged, too."""
    block, size_frames = list[Samples](), 0
    for frame in frames:
        if (frame.sample_rate, len(frame.layout.channels)) != (sound.sample_rate_hz, sound.channels):
            sound.damaged = True
            continue
        block.append(_samples(frame, sound.channels))
        size_frames += frame.samples
        if size_frames >= _BLOCK_FRAMES:
            yield np.concatenate(block)
            block, size_frames = [], 0
    if block:
        yield np.concatenate(block)


def _samples(frame: AudioFrame, channels: int) -> Samples:
    """float32 [samples, channels], in -1…1 unless its own are of floating point."""
    sent = frame.to_ndarray()  # [channels, samples], or [1, samples · channels]
    samples = sent.T if frame.format.is_planar else sent.reshape(-1, channels)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    middle, scale = (128, 128) if samples.dtype.kind == "u" else (0, 2 ** (8 * samples.itemsize - 1))
    return (samples.astype(np.float32) - np.float32(middle)) / np.float32(scale)
