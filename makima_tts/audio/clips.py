"""Reference clips: read within bounds, mended within limits, and reported on.

In: a file that anyone may have made. Out: a :class:`Clip` and a :class:`ClipReport`, or InvalidClip. Does not
know: voices, uploads, engines.

File headers are not trusted: a clip is read block by block, never past :data:`MAX_CLIP_S`, into memory whose
pages are used only as far as samples arrive. Clips stay at their own rate.
"""

import mmap
import wave
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from makima_tts.audio.pcm import PcmEncoder
from makima_tts.audio.sound_files import ALLOWED, Recording, Samples, decode
from makima_tts.errors import InvalidClip
from makima_tts.text import longest_speech_s, usual_speech_s

Mending = Literal[
    "mixed down to mono",
    "took one channel",
    "cut at a pause before 60 s",
    "removed a DC offset",
    "cut silence at the ends",
    "raised the level",
]

MIN_CLIP_S = 3.0
MAX_CLIP_S = 60.0
MAX_CHANNELS = 8

_BLOCK_FRAMES = 65_536
# The mean of eight channels that have nothing in common, or of which one alone has sound, has an eighth of
# their power.
_MIN_MIX_POWER = 0.1
# Every sixteenth sample tells as much of it as all.
_POWER_STRIDE = 16
# A file may end a little before the length in its header: that of a video, or in whole packets.
_LENGTH_TOLERANCE_S = 0.5
_LAST_PAUSE_WITHIN_S = 15.0
_PAUSE_S = 0.2
# A clone continues from the end of its clip, which therefore keeps some silence.
_KEPT_SILENCE_S = 0.5

_WINDOW_S = 0.02
_FLOOR_DBFS = -120.0


@dataclass(frozen=True, slots=True)
class Clip:
    """``pcm``: float32 [samples], mono, in -1…1, at ``sample_rate_hz``."""

    pcm: Samples = field(repr=False)
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        return self.pcm.size / self.sample_rate_hz


class ClipReport(BaseModel):
    """A clip as it was sent, and what was done to it."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    duration_ms: int = Field(description="Length as sent, at most 60000", examples=[9120])
    used_ms: int = Field(description="Length that is used, after mending", examples=[8400])
    sample_rate_hz: int = Field(alias="sampleRate", description="Samples per second", examples=[48000])
    channels: int = Field(description="1 to 8; several are mixed down", examples=[1])
    level_dbfs: float = Field(description="RMS level, dB below full scale", examples=[-21.4])
    peak_dbfs: float = Field(description="Peak level", examples=[-3.2])
    clipped_ratio: float = Field(description="Share of samples at full scale, 0…1", examples=[0.0])
    noise_floor_dbfs: float = Field(description="Level that the quietest tenth stays below", examples=[-62.0])
    trailing_silence_ms: int = Field(description="Silence at the end, as sent", examples=[720])
    mended: tuple[Mending, ...] = Field(description="What was done to it", examples=[["mixed down to mono"]])
    warnings: tuple[str, ...] = Field(description="What makes the voice worse, and what to do", examples=[[]])


@dataclass(frozen=True, slots=True)
class _Loudness:
    """Of a clip without DC offset."""

    level_dbfs: float
    peak_dbfs: float
    noise_floor_dbfs: float
    leading_silence_s: float
    trailing_silence_s: float


@dataclass(frozen=True, slots=True)
class _Decoded:
    """``cancels``: its channels cancel each other out when they are mixed down."""

    clip: Clip
    channels: int
    loudest_channel: int
    cancels: bool
    clipped_ratio: float
    damaged: bool
    longer: bool  # than MAX_CLIP_S, and cut there


def check_header(file: BinaryIO) -> None:
    """Checks format, rate and channels; decodes one frame at most. Raises InvalidClip."""
    decode(file, _require_usable_header)


def read_clip(
    file: BinaryIO, transcript: str | None = None, language: str = "Auto"
) -> tuple[Clip, ClipReport]:
    """The clip as it will be used, and a report on it as it was sent. Raises InvalidClip.

    ``transcript``: warnings compare its length with the clip's, by the rate at which ``language`` is spoken.
    A longer clip than MAX_CLIP_S is cut at a pause, but refused with a transcript, which would not fit then.
    Blocks: call it in a worker thread. Holds one mono copy of at most 60 s.
    """
    sent = _decode(file)
    if sent.longer and transcript:
        raise InvalidClip(
            f"The clip is longer than {MAX_CLIP_S:.0f} s, and its transcript cannot be cut with it. "
            "Cut both, best to 5 to 15 s, or send the clip without a transcript."
        )
    whole = _cut_at_pause(sent.clip) if sent.longer else sent.clip
    offset = _remove_offset(whole.pcm)
    loudness = _measure(whole.pcm, whole.sample_rate_hz)
    _refuse_unusable(whole, loudness, sent.clipped_ratio)
    clip, mended = _mend(whole, loudness)
    if clip.duration_s < MIN_CLIP_S:
        # Rounded down, so that 2.99 s are not reported as the 3 s that are required.
        raise InvalidClip(f"The clip holds only {int(clip.duration_s * 10) / 10} s of sound. {ALLOWED}")
    before: dict[Mending, bool] = {
        "took one channel": sent.cancels,
        "mixed down to mono": sent.channels > 1 and not sent.cancels,
        "cut at a pause before 60 s": sent.longer,
        "removed a DC offset": abs(offset) > 0.002,
    }
    return clip, ClipReport(
        duration_ms=round(sent.clip.duration_s * 1000),
        used_ms=(used_ms := round(clip.duration_s * 1000)),
        sample_rate_hz=clip.sample_rate_hz,
        channels=sent.channels,
        level_dbfs=round(loudness.level_dbfs, 1),
        peak_dbfs=round(loudness.peak_dbfs, 1),
        clipped_ratio=round(sent.clipped_ratio, 5),
        noise_floor_dbfs=round(loudness.noise_floor_dbfs, 1),
        trailing_silence_ms=round(loudness.trailing_silence_s * 1000),
        mended=(*(name for name, applies in before.items() if applies), *mended),
        warnings=(
            *_clip_warnings(sent, loudness, clip),
            *_transcript_warnings(transcript, language, used_ms / 1000),
        ),
    )


def read_clip_as_it_is(file: BinaryIO) -> Clip:
    """Mixed down to mono, otherwise unchanged; any length up to MAX_CLIP_S. Raises InvalidClip. Blocks."""
    sent = _decode(file, limited=False)
    if sent.longer:
        raise InvalidClip(f"The clip is longer than {MAX_CLIP_S:.0f} s. {ALLOWED}")
    if not sent.clip.pcm.size:
        raise InvalidClip(f"The clip holds no sound. {ALLOWED}")
    return sent.clip


def write_clip(file: BinaryIO, clip: Clip) -> None:
    """As a mono WAV of 16 bits, whatever format was sent. Raises OSError."""
    encoder = PcmEncoder(clip.sample_rate_hz, clip.sample_rate_hz, "pcm16")
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(clip.sample_rate_hz)
        for start in range(0, clip.pcm.size, _BLOCK_FRAMES):
            sound.writeframesraw(encoder.encode(clip.pcm[start : start + _BLOCK_FRAMES]))


def _decode(file: BinaryIO, *, limited: bool = True) -> _Decoded:
    """``limited``: to -1…1, which floating-point samples may exceed."""
    mixed = decode(file, partial(_mix, limited=limited))
    if not mixed.cancels:
        return mixed
    # Which channel is the loudest is known only now. Two copies at once would take too much memory.
    loudest = mixed.loudest_channel
    del mixed
    return decode(file, partial(_mix, limited=limited, channel=loudest))


def _mix(sound: Recording, *, limited: bool, channel: int | None = None) -> _Decoded:
    """All channels mixed down to mono, or ``channel`` alone."""
    _require_usable_header(sound)
    max_frames = round(sound.sample_rate_hz * MAX_CLIP_S)
    pcm, filled, clipped = _reserve(max_frames + 1), 0, 0
    powers = np.zeros(sound.channels + 1)  # of each channel and of the clip, without DC offset
    if channel is None:
        weights = np.full(sound.channels, 1 / sound.channels, np.float32)
    else:
        weights = np.eye(sound.channels, dtype=np.float32)[channel]
    for sent in sound.blocks:
        block = _require_numbers(sent[: pcm.size - filled])
        clipped += int(np.count_nonzero(np.abs(block) >= 0.999))
        if limited:
            np.clip(block, -1.0, 1.0, out=block)
        mono = block @ weights  # [frames]
        powers += np.column_stack([block[::_POWER_STRIDE], mono[::_POWER_STRIDE]]).var(
            axis=0, dtype=np.float64
        )
        pcm[filled : filled + len(block)] = mono
        filled += len(block)
        if filled == pcm.size:
            break
    longer, filled = filled > max_frames, min(filled, max_frames)
    missing_s = (sound.stated_frames - filled) / sound.sample_rate_hz
    return _Decoded(
        Clip(pcm[:filled], sound.sample_rate_hz),
        sound.channels,
        loudest_channel=int(powers[:-1].argmax()),
        cancels=channel is not None or bool(powers[-1] < _MIN_MIX_POWER * powers[:-1].mean()),
        clipped_ratio=clipped / max(1, filled * sound.channels),
        damaged=sound.damaged or (not longer and missing_s > _LENGTH_TOLERANCE_S),
        longer=longer,
    )


def _require_usable_header(sound: Recording) -> None:
    if not 8_000 <= sound.sample_rate_hz <= 192_000:
        raise InvalidClip(f"The clip has {sound.sample_rate_hz} samples per second. {ALLOWED}")
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise InvalidClip(f"The clip has {sound.channels} channels. {ALLOWED}")


def _require_numbers(block: Samples) -> Samples:
    if not np.isfinite(block).all():
        raise InvalidClip(
            "The clip holds samples that are not numbers. Save it again as WAV of 16 or 24 bits."
        )
    return block


def _reserve(samples: int) -> Samples:
    """Anonymous memory: pages that are not written cost nothing, and all return to the system when freed."""
    whole = np.frombuffer(mmap.mmap(-1, max(1, samples * 4)), np.uint8)
    return whole[: samples * 4].view(np.float32)


def _cut_at_pause(clip: Clip) -> Clip:
    """In the middle of the quietest moment near its end."""
    window_samples = round(clip.sample_rate_hz * _WINDOW_S)
    first = clip.pcm.size - round(clip.sample_rate_hz * _LAST_PAUSE_WITHIN_S)
    count = round(_PAUSE_S / _WINDOW_S)
    powers = 10 ** (_window_levels(clip.pcm[first:], window_samples) / 10)  # [windows]
    quietest = int(np.convolve(powers, np.ones(count), "valid").argmin())
    return Clip(clip.pcm[: first + (quietest + count // 2) * window_samples], clip.sample_rate_hz)


def _measure(pcm: Samples, sample_rate_hz: int) -> _Loudness:
    """Window by window, without a copy of ``pcm``, which may be large."""
    if not pcm.size:
        return _Loudness(_FLOOR_DBFS, _FLOOR_DBFS, _FLOOR_DBFS, 0.0, 0.0)
    levels_dbfs = _window_levels(pcm, round(sample_rate_hz * _WINDOW_S))  # [windows]
    # A window 40 dB below the loudest one holds no speech.
    loud = np.flatnonzero(levels_dbfs > levels_dbfs.max() - 40.0)
    return _Loudness(
        level_dbfs=float(_dbfs(np.sqrt(np.mean(10 ** (levels_dbfs / 10))))),
        peak_dbfs=float(_dbfs(np.float64(max(pcm.max(), -pcm.min())))),
        noise_floor_dbfs=float(np.quantile(levels_dbfs, 0.1)),
        leading_silence_s=float(loud[0]) * _WINDOW_S,
        trailing_silence_s=float(levels_dbfs.size - 1 - loud[-1]) * _WINDOW_S,
    )


def _window_levels(pcm: Samples, window_samples: int) -> npt.NDArray[np.float64]:
    """RMS in dBFS, float64 [windows]; a clip shorter than one window is one window."""
    count = max(1, pcm.size // window_samples)
    windows = pcm[: count * window_samples].reshape(count, -1)  # [windows, samples]
    squares = np.einsum("ws,ws->w", windows, windows, dtype=np.float64)  # [windows]
    return _dbfs(np.sqrt(squares / windows.shape[1]))


def _dbfs(amplitude: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    return np.asarray(20 * np.log10(np.maximum(amplitude, 10 ** (_FLOOR_DBFS / 20))))


def _refuse_unusable(clip: Clip, loudness: _Loudness, clipped_ratio: float) -> None:
    if not clip.pcm.size:
        raise InvalidClip(f"The clip holds no sound. {ALLOWED}")
    if loudness.level_dbfs < -60.0:
        raise InvalidClip("The clip is silent. Send a recording of one person speaking.")
    if clipped_ratio > 0.01:
        raise InvalidClip(
            f"{clipped_ratio:.0%} of the clip is clipped, which the cloned voice would repeat. "
            "Record it again at a lower level."
        )


def _clip_warnings(sent: _Decoded, loudness: _Loudness, clip: Clip) -> tuple[str, ...]:
    """What makes the cloned voice worse, and what to do about it."""
    noisy = loudness.level_dbfs - loudness.noise_floor_dbfs < 20.0
    found = {
        "The file is cut off or damaged: only what could be decoded is used. Send it again.": sent.damaged,
        "The channels cancel each other out (opposite phase): only the loudest one is used.": sent.cancels,
        f"{clip.duration_s:.1f} s of sound; 5 to 15 s work best.": not 5.0 <= clip.duration_s <= 15.0,
        "Slightly clipped: record it at a lower level.": sent.clipped_ratio > 0.0001,
        "Noisy, or without a pause: record it in a quiet room.": noisy,
        "Quiet: record it closer to the microphone.": loudness.level_dbfs < -35.0,
        "Of telephone quality: record it at 16 kHz or more.": clip.sample_rate_hz < 16_000,
    }
    return tuple(warning for warning, applies in found.items() if applies)


def _transcript_warnings(transcript: str | None, language: str, used_s: float) -> tuple[str, ...]:
    """A transcript that says more or less than the clip makes the cloned voice stumble."""
    if not transcript:
        return ()
    if used_s > longest_speech_s(transcript, language):
        return ("The transcript is short for this clip: it must hold every word that is said.",)
    # Fast speakers are less than twice as fast as usual ones.
    if 2 * used_s < usual_speech_s(transcript, language):
        return ("The transcript is long for this clip: it must hold only what is said.",)
    return ()


def _remove_offset(pcm: Samples) -> float:
    """In place, as all mending is: a minute at 192 kHz is 46 MB. Returns the offset that was removed."""
    offset = float(pcm.mean(dtype=np.float64)) if pcm.size else 0.0
    pcm -= np.float32(offset)
    return offset


def _mend(clip: Clip, loudness: _Loudness) -> tuple[Clip, tuple[Mending, ...]]:
    """Cuts silence at the ends, raises a low level."""
    rate_hz, mended = clip.sample_rate_hz, list[Mending]()
    leading_s, trailing_s = loudness.leading_silence_s, loudness.trailing_silence_s
    first = max(0, round((leading_s - _KEPT_SILENCE_S) * rate_hz))
    cut_samples = max(0, round((trailing_s - _KEPT_SILENCE_S) * rate_hz))
    kept = clip.pcm[first : clip.pcm.size - cut_samples]
    if kept.size < clip.pcm.size:
        mended.append("cut silence at the ends")
    if (gain_db := _gain_db(loudness)) > 1.0:
        kept *= np.float32(10 ** (gain_db / 20))
        mended.append("raised the level")
    return Clip(np.clip(kept, -1.0, 1.0, out=kept), rate_hz), tuple(mended)


def _gain_db(loudness: _Loudness) -> float:
    """Raises a quiet clip to a usual level, as far as its peak allows; 0 for any other."""
    if loudness.level_dbfs >= -30.0:
        return 0.0
    return min(-23.0 - loudness.level_dbfs, -1.0 - loudness.peak_dbfs)
