"""Reference clips: read within bounds, mended where that is honest, and reported on.

In: a file that anyone may have made. Out: a :class:`Clip` and a :class:`ClipReport`, or InvalidClip. Does not
know: voices, uploads, engines.

Nothing a file's header claims is believed: it is read block by block, never past :data:`MAX_CLIP_S`, into
memory that is used only as far as sound really arrives. Clips stay at their own rate.
"""

import mmap
import wave
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from makima_tts.audio.clip_report import ClipReport, Level, Mending, clip_warnings, measure
from makima_tts.audio.pcm import PcmEncoder
from makima_tts.errors import InvalidClip

Pcm = npt.NDArray[np.float32]

MIN_CLIP_S = 3.0
MAX_CLIP_S = 60.0
MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
ALLOWED = "Allowed: WAV, FLAC, OGG or MP3 of 3 to 60 s, 8 to 192 kHz, mono or stereo."

# libsndfile opens 26 kinds of file; the rarer a decoder, the fewer eyes have been on it.
_FORMATS = frozenset({"WAV", "WAVEX", "FLAC", "OGG", "MP3"})
_BLOCK_FRAMES = 65_536
_FULL_SCALE = 0.999
_HEAVILY_CLIPPED = 0.01
_SILENT_DBFS = -60.0
_DC_OFFSET = 0.002
# A clone begins with what its clip ends on, so there is silence to be left.
_KEPT_SILENCE_S = 0.5
_QUIET_DBFS = -30.0
_WANTED_DBFS = -23.0
_PEAK_DBFS = -1.0
_LEAST_GAIN_DB = 1.0


@dataclass(frozen=True, slots=True)
class Clip:
    """``pcm``: float32 [samples], mono, in -1…1, at ``sample_rate_hz``."""

    pcm: Pcm = field(repr=False)
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        return self.pcm.size / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class _Decoded:
    clip: Clip
    channels: int
    clipped_ratio: float


def check_header(file: BinaryIO) -> None:
    """Whether it is worth reading at all: kind, rate, channels. Cheap. Raises InvalidClip."""
    with _open(file):
        pass


def read_clip(file: BinaryIO) -> tuple[Clip, ClipReport]:
    """The clip as it will be used, and a report on it as it was sent. Raises InvalidClip.

    Blocks: call it in a worker thread. Holds one mono copy of at most 60 s.
    """
    decoded = _decode(file)
    offset = _remove_offset(decoded.clip.pcm)
    level = measure(decoded.clip.pcm, decoded.clip.sample_rate_hz)
    _refuse_unusable(decoded, level)
    clip, mended = _mend(decoded.clip, level)
    if abs(offset) > _DC_OFFSET:
        mended = ("removed a DC offset", *mended)
    if decoded.channels > 1:
        mended = ("mixed down to mono", *mended)
    if clip.duration_s < MIN_CLIP_S:
        # Rounded down: 2.99 s are not the 3 s that are asked for.
        raise InvalidClip(f"The clip holds only {int(clip.duration_s * 10) / 10} s of sound. {ALLOWED}")
    return clip, _report(decoded, level, clip, mended)


def read_clip_as_it_is(file: BinaryIO) -> Clip:
    """Mixed down to mono and nothing else; any length up to MAX_CLIP_S. Raises InvalidClip. Blocks."""
    clip = _decode(file, limited=False).clip
    if not clip.pcm.size:
        raise InvalidClip(f"The clip holds no sound. {ALLOWED}")
    return clip


def write_clip(file: BinaryIO, clip: Clip) -> None:
    """As a mono WAV of 16 bits: what lies on disk is ours, whatever was sent. Raises OSError."""
    encoder = PcmEncoder(clip.sample_rate_hz, clip.sample_rate_hz, "pcm16")
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(clip.sample_rate_hz)
        for start in range(0, clip.pcm.size, _BLOCK_FRAMES):
            sound.writeframesraw(encoder.encode(clip.pcm[start : start + _BLOCK_FRAMES]))


def _open(file: BinaryIO) -> soundfile.SoundFile:
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise InvalidClip(f"This is not a sound file, or it is damaged. {ALLOWED}") from error
    if refusal := _header_refusal(sound):
        sound.close()
        raise InvalidClip(f"{refusal} {ALLOWED}")
    return sound


def _header_refusal(sound: soundfile.SoundFile) -> str | None:
    if sound.format not in _FORMATS:
        return f"The file is of the kind {sound.format}."
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        return f"The clip has {sound.samplerate} samples per second."
    if not 1 <= sound.channels <= 2:
        return f"The clip has {sound.channels} channels."
    return None


def _decode(file: BinaryIO, *, limited: bool = True) -> _Decoded:
    """``limited``: to -1…1, which samples of floating point may exceed."""
    with _open(file) as sound:
        longest_frames = round(sound.samplerate * MAX_CLIP_S)
        pcm = _reserve(min(max(sound.frames, 0), longest_frames + 1))
        filled = clipped = 0
        while filled < pcm.size and (block := _read_block(sound, pcm.size - filled)).size:
            clipped += _count_clipped(block)
            if limited:
                np.clip(block, -1.0, 1.0, out=block)
            block.mean(axis=1, out=pcm[filled : filled + len(block)])
            filled += len(block)
        if filled > longest_frames:
            raise InvalidClip(f"The clip is longer than {MAX_CLIP_S:.0f} s. {ALLOWED}")
        ratio = clipped / max(1, filled * sound.channels)
        return _Decoded(Clip(pcm[:filled], sound.samplerate), sound.channels, ratio)


def _reserve(samples: int) -> Pcm:
    """Straight from the system: what is not written costs nothing, and all of it goes back there."""
    whole = np.frombuffer(mmap.mmap(-1, max(1, samples * 4)), np.uint8)
    return whole[: samples * 4].view(np.float32)


def _read_block(sound: soundfile.SoundFile, most_frames: int) -> Pcm:
    """float32 [frames, channels]; empty at the end."""
    try:
        block: Pcm = sound.read(min(_BLOCK_FRAMES, most_frames), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        message = "The clip is damaged, or does not say how long it is. Save it again as WAV and send that."
        raise InvalidClip(message) from error
    if not np.isfinite(block).all():
        raise InvalidClip(
            "The clip holds samples that are not numbers. Save it again as WAV of 16 or 24 bits."
        )
    return block


def _count_clipped(block: Pcm) -> int:
    return int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))


def _refuse_unusable(decoded: _Decoded, level: Level) -> None:
    if not decoded.clip.pcm.size:
        raise InvalidClip(f"The clip holds no sound. {ALLOWED}")
    if level.level_dbfs < _SILENT_DBFS:
        raise InvalidClip("The clip is silent. Send a recording of one person speaking.")
    if decoded.clipped_ratio > _HEAVILY_CLIPPED:
        raise InvalidClip(
            f"{decoded.clipped_ratio:.0%} of the clip is clipped, which the cloned voice would repeat. "
            "Record it again at a lower level."
        )


def _report(decoded: _Decoded, level: Level, used: Clip, mended: tuple[Mending, ...]) -> ClipReport:
    return ClipReport(
        duration_ms=round(decoded.clip.duration_s * 1000),
        used_ms=round(used.duration_s * 1000),
        sample_rate_hz=used.sample_rate_hz,
        channels=decoded.channels,
        level_dbfs=round(level.level_dbfs, 1),
        peak_dbfs=round(level.peak_dbfs, 1),
        clipped_ratio=round(decoded.clipped_ratio, 5),
        noise_floor_dbfs=round(level.noise_floor_dbfs, 1),
        trailing_silence_ms=round(level.trailing_silence_s * 1000),
        mended=mended,
        warnings=clip_warnings(level, used.duration_s, used.sample_rate_hz, decoded.clipped_ratio),
    )


def _remove_offset(pcm: Pcm) -> float:
    """In place, as all mending is: a clip of a minute at 192 kHz is 46 MB. Returns what the offset was."""
    offset = float(pcm.mean(dtype=np.float64)) if pcm.size else 0.0
    pcm -= np.float32(offset)
    return offset


def _mend(clip: Clip, level: Level) -> tuple[Clip, tuple[Mending, ...]]:
    """Silence at the ends cut, a low level raised."""
    rate_hz, mended = clip.sample_rate_hz, list[Mending]()
    kept = clip.pcm[_first_sample(level, rate_hz) : _last_sample(level, rate_hz, clip.pcm.size)]
    if kept.size < clip.pcm.size:
        mended.append("cut silence at the ends")
    if (gain_db := _gain_db(level)) > _LEAST_GAIN_DB:
        kept *= np.float32(10 ** (gain_db / 20))
        mended.append("raised the level")
    return Clip(np.clip(kept, -1.0, 1.0, out=kept), rate_hz), tuple(mended)


def _first_sample(level: Level, rate_hz: int) -> int:
    return max(0, round((level.leading_silence_s - _KEPT_SILENCE_S) * rate_hz))


def _last_sample(level: Level, rate_hz: int, size_samples: int) -> int:
    return size_samples - max(0, round((level.trailing_silence_s - _KEPT_SILENCE_S) * rate_hz))


def _gain_db(level: Level) -> float:
    """A quiet clip is raised to a usual level, as far as its peak allows; any other is left as it is."""
    if level.level_dbfs >= _QUIET_DBFS:
        return 0.0
    return min(_WANTED_DBFS - level.level_dbfs, _PEAK_DBFS - level.peak_dbfs)
