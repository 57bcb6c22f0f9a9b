"""Laws of time stretching: pitch, length, no clicks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.audio import PcmEncoder
from makima_tts.audio.time_stretch import StreamingStretch
from makima_tts.errors import SynthesisError
from tests.audio.streams import ENGINE_RATE_HZ, FRAME_SAMPLES, Samples, frames_of

SPEEDS = (0.5, 0.75, 0.9, 1.1, 1.5, 2.0)
TONE_HZ = 220.0


def voice_like(samples: int, rate_hz: int = ENGINE_RATE_HZ) -> Samples:
    """A tone and its overtones, four syllables a second."""
    time_s = np.arange(samples) / rate_hz
    wave = sum(np.sin(2 * np.pi * TONE_HZ * overtone * time_s) / overtone for overtone in range(1, 6))
    return (0.2 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s))).astype(np.float32)


def stretched(parts: list[Samples], speed: float, rate_hz: int = ENGINE_RATE_HZ) -> Samples:
    stretch = StreamingStretch(rate_hz, speed)
    return np.concatenate([*(stretch.push(part) for part in parts), stretch.flush()])


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("rate_hz", [8000, 24_000, 48_000])
def test_the_pitch_is_kept_within_a_hundredth(speed: float, rate_hz: int) -> None:
    heard = stretched([voice_like(4 * rate_hz, rate_hz)], speed, rate_hz)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.size), 2**20))
    assert np.argmax(spectrum) * rate_hz / 2**20 == pytest.approx(TONE_HZ, rel=0.01)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("samples", [0, 1, 500, FRAME_SAMPLES, 100_003])
def test_the_length_is_exactly_that_of_the_speed(speed: float, samples: int) -> None:
    assert stretched(frames_of(voice_like(samples)), speed).size == round(samples / speed)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 8000), max_size=12), speed=st.floats(0.5, 2.0))
def test_any_split_of_the_input_gives_the_same_samples(cuts: list[int], speed: float) -> None:
    pcm = voice_like(8000)
    whole = stretched([pcm], speed)
    assert whole.size == round(pcm.size / speed)
    assert np.array_equal(stretched(np.split(pcm, sorted(cuts)), speed), whole)


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_first_frame_yields_output_at_once(speed: float) -> None:
    assert StreamingStretch(ENGINE_RATE_HZ, speed).push(voice_like(FRAME_SAMPLES)).size


@pytest.mark.parametrize("speed", SPEEDS)
def test_sounds_stay_where_they_belong(speed: float) -> None:
    """One burst per half second, each at its time within a window of the filter."""
    pcm = np.zeros(4 * ENGINE_RATE_HZ, np.float32)
    begins_s = np.arange(0.25, 3.9, 0.5)
    for begin_s in begins_s:
        start = round(begin_s * ENGINE_RATE_HZ)
        pcm[start : start + 2400] = voice_like(2400)
    loud = np.abs(stretched(frames_of(pcm), speed)) > 0.05
    for begin_s in begins_s:
        window = slice(*(round((begin_s + by) / speed * ENGINE_RATE_HZ) for by in (-0.12, 0.3)))
        found_s = (window.start + np.argmax(loud[window])) / ENGINE_RATE_HZ
        assert found_s == pytest.approx(begin_s / speed, abs=0.045 / speed)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
def test_no_seam_is_heard_as_a_click(speed: float) -> None:
    pcm = (0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(48_000) / ENGINE_RATE_HZ)).astype(np.float32)
    heard = stretched(frames_of(pcm), speed)[2400:-2400]
    # A sine's steepest step, and a little more for the cross-fades; a click would be many times that.
    assert np.abs(np.diff(heard)).max() < 1.2 * np.abs(np.diff(pcm)).max()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_stretch_needs_no_threads_of_its_own() -> None:
    """FFmpeg would start one for each processor, up to 16, for every listener."""
    threads = Path("/proc/self/task")
    before = len(list(threads.iterdir()))
    stretch = StreamingStretch(ENGINE_RATE_HZ, 1.5)
    stretch.push(voice_like(FRAME_SAMPLES))
    assert len(list(threads.iterdir())) == before


def test_at_its_own_speed_nothing_is_touched() -> None:
    pcm = voice_like(FRAME_SAMPLES)
    encoder = PcmEncoder(ENGINE_RATE_HZ, ENGINE_RATE_HZ, "pcm32f", speed=1.0)
    assert encoder.encode(pcm) + encoder.flush() == pcm.tobytes()


def test_nan_and_inf_are_refused() -> None:
    encoder = PcmEncoder(ENGINE_RATE_HZ, ENGINE_RATE_HZ, "pcm16", speed=1.5)
    with pytest.raises(SynthesisError):
        encoder.encode(np.full(FRAME_SAMPLES, np.nan, np.float32))
