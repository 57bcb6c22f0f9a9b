"""Reference clips: read within bounds, mended within limits, and reported on.

In: a file that anyone may have made. Out: a :class:`Clip` and a :class:`ClipReport`, or InvalidClip. Does not
know: voices, uploads, engines.

File headers are not trusted: a clip is read block by block, never past :data:`MAX_CLIP_S`, into memory whose
pages are used only as far as samples arrive. Clips stay at their own rate.
"""

import mmap
import wave
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from makima_tts.audio.pcm import PcmEncoder
from makima_tts.errors import InvalidClip

Samples = npt.NDArray[np.float32]
Mending = Literal["mixed down to mono", "removed a DC offset", "cut silence at the ends", "raised the level"]

MIN_CLIP_S = 3.0
MAX_CLIP_S = 60.0
ALLOWED = "Allowed: WAV, FLAC, OGG or MP3 of 3 to 60 s, 8 to 192 kHz, mono or stereo."

# libsndfile opens 26 formats; only widely used decoders get input from strangers.
_FORMATS = {"WAV", "WAVEX", "FLAC", "OGG", "MP3"}
_BLOCK_FRAMES = 65_536
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

    duration_ms: int = Field(description="Length as sent", examples=[9120])
    used_ms: int = Field(description="Length that is used, after mending", examples=[8400])
    sample_rate_hz: int = Field(alias="sampleRate", description="Samples per second", examples=[48000])
    channels: int = Field(description="1 or 2; two are mixed down", examples=[1])
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


def check_header(file: BinaryIO) -> None:
    """Checks format, rate and channels without decoding. Raises InvalidClip."""
    with _open(file):
        pass


def read_clip(file: BinaryIO, transcript: str | None = None) -> tuple[Clip, ClipReport]:
    """The clip as it will be used, and a report on it as it was sent. Raises InvalidClip.

    ``transcript``: warnings compare its length with the clip's. Blocks: call it in a worker thread. Holds one
    mono copy of at most 60 s.
    """
    sent, channels, clipped_ratio = _decode(file)
    offset = _remove_offset(sent.pcm)
    loudness = _measure(sent.pcm, sent.sample_rate_hz)
    _refuse_unusable(sent, loudness, clipped_ratio)
    clip, mended = _mend(sent, loudness)
    if abs(offset) > 0.002:
        mended = ("removed a DC offset", *mended)
    if channels > 1:
        mended = ("mixed down to mono", *mended)
    if clip.duration_s < MIN_CLIP_S:
        # Rounded down, so that 2.99 s are not reported as the 3 s that are required.
        raise InvalidClip(f"The clip holds only {int(clip.duration_s * 10) / 10} s of sound. {ALLOWED}")
    return clip, ClipReport(
        duration_ms=round(sent.duration_s * 1000),
        used_ms=(used_ms := round(clip.duration_s * 1000)),
        sample_rate_hz=clip.sample_rate_hz,
        channels=channels,
        level_dbfs=round(loudness.level_dbfs, 1),
        peak_dbfs=round(loudness.peak_dbfs, 1),
        clipped_ratio=round(clipped_ratio, 5),
        noise_floor_dbfs=round(loudness.noise_floor_dbfs, 1),
        trailing_silence_ms=round(loudness.trailing_silence_s * 1000),
        mended=mended,
        warnings=(
            *_clip_warnings(loudness, clip, clipped_ratio),
            *_transcript_warnings(transcript, used_ms / 1000),
        ),
    )


def read_clip_as_it_is(file: BinaryIO) -> Clip:
    """Mixed down to mono, otherwise unchanged; any length up to MAX_CLIP_S. Raises InvalidClip. Blocks."""
    clip, _, _ = _decode(file, limited=False)
    if not clip.pcm.size:
        raise InvalidClip(f"The clip holds no sound. {ALLOWED}")
    return clip


def write_clip(file: BinaryIO, clip: Clip) -> None:
    """As a mono WAV of 16 bits, whatever format was sent. Raises OSError."""
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
    if not 8_000 <= sound.samplerate <= 192_000:
        return f"The clip has {sound.samplerate} samples per second."
    if not 1 <= sound.channels <= 2:
        return f"The clip has {sound.channels} channels."
    return None


def _decode(file: BinaryIO, *, limited: bool = True) -> tuple[Clip, int, float]:
    """The clip, its channels as sent, and its share of clipped samples.

    ``limited``: to -1…1, which floating-point samples may exceed.
    """
    with _open(file) as sound:
        max_frames = round(sound.samplerate * MAX_CLIP_S)
        pcm = _reserve(min(max(sound.frames, 0), max_frames + 1))
        filled = clipped = 0
        while filled < pcm.size and (block := _read_block(sound, pcm.size - filled)).size:
            clipped += int(np.count_nonzero(np.abs(block) >= 0.999))
            if limited:
                np.clip(block, -1.0, 1.0, out=block)
            block.mean(axis=1, out=pcm[filled : filled + len(block)])
            filled += len(block)
        if filled > max_frames:
            raise InvalidClip(f"The clip is longer than {MAX_CLIP_S:.0f} s. {ALLOWED}")
        ratio = clipped / max(1, filled * sound.channels)
        return Clip(pcm[:filled], sound.samplerate), sound.channels, ratio


def _reserve(samples: int) -> Samples:
    """Anonymous memory: pages that are not written cost nothing, and all return to the system when freed."""
    whole = np.frombuffer(mmap.mmap(-1, max(1, samples * 4)), np.uint8)
    return whole[: samples * 4].view(np.float32)


def _read_block(sound: soundfile.SoundFile, max_frames: int) -> Samples:
    """float32 [frames, channels]; empty at the end."""
    try:
        block: Samples = sound.read(min(_BLOCK_FRAMES, max_frames), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        message = "The clip is damaged, or does not say how long it is. Save it again as WAV and send that."
        raise InvalidClip(message) from error
    if not np.isfinite(block).all():
        raise InvalidClip(
            "The clip holds samples that are not numbers. Save it again as WAV of 16 or 24 bits."
        )
    return block


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


def _clip_warnings(loudness: _Loudness, clip: Clip, clipped_ratio: float) -> tuple[str, ...]:
    """What makes the cloned voice worse, and what to do about it."""
    noisy = loudness.level_dbfs - loudness.noise_floor_dbfs < 20.0
    found = {
        f"{clip.duration_s:.1f} s of sound; 5 to 15 s work best.": not 5.0 <= clip.duration_s <= 15.0,
        "Slightly clipped: record it at a lower level.": clipped_ratio > 0.0001,
        "Noisy, or without a pause: record it in a quiet room.": noisy,
        "Quiet: record it closer to the microphone.": loudness.level_dbfs < -35.0,
        "Of telephone quality: record it at 16 kHz or more.": clip.sample_rate_hz < 16_000,
    }
    return tuple(warning for warning, applies in found.items() if applies)


def _transcript_warnings(transcript: str | None, used_s: float) -> tuple[str, ...]:
    """A transcript that says more or less than the clip makes the cloned voice stumble."""
    if transcript is not None and len(transcript) / used_s < 2.0:  # slow Chinese
        return ("The transcript is short for this clip: it must hold every word that is said.",)
    if transcript is not None and len(transcript) / used_s > 30.0:  # fast English
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
