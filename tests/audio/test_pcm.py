"""Laws of the conversion from an engine's samples to PCM bytes."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.audio import PcmEncoder, PcmEncoding
from makima_tts.errors import SynthesisError

ENGINE_RATE_HZ = 24000
FRAME_SAMPLES = 1920
RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)
DTYPES = {"pcm16": "<i2", "pcm32f": "<f4"}

Samples = npt.NDArray[np.float32]


def sine(samples: int, tone_hz: float = 440.0, level: float = 0.5) -> Samples:
    phase = 2 * np.pi * tone_hz * np.arange(samples) / ENGINE_RATE_HZ
    return (level * np.sin(phase)).astype(np.float32)


def encode(parts: list[Samples], rate_hz: int, encoding: PcmEncoding = "pcm32f") -> bytes:
    encoder = PcmEncoder(ENGINE_RATE_HZ, rate_hz, encoding)
    return b"".join([*(encoder.encode(part) for part in parts), encoder.flush()])


def samples_of(encoded: bytes, encoding: PcmEncoding = "pcm32f") -> Samples:
    return np.frombuffer(encoded, DTYPES[encoding]).astype(np.float32)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 6000), max_size=12),
    samples=st.integers(0, 6000),
    encoding=st.sampled_from(("pcm16", "pcm32f")),
)
def test_any_split_of_the_samples_gives_the_same_bytes(
    rate_hz: int, cuts: list[int], samples: int, encoding: PcmEncoding
) -> None:
    pcm = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    edges = [0, *sorted(min(cut, samples) for cut in cuts), samples]
    parts = [pcm[start:end] for start, end in pairwise(edges)]
    assert encode(parts, rate_hz, encoding) == encode([pcm], rate_hz, encoding)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("samples", [0, 1, 7, FRAME_SAMPLES, 24001])
def test_the_length_is_kept_within_one_sample(rate_hz: int, samples: int) -> None:
    resampled = samples_of(encode([sine(samples)], rate_hz))
    assert abs(resampled.size - samples * rate_hz / ENGINE_RATE_HZ) <= 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_sine_stays_a_sine_where_chunks_meet(rate_hz: int) -> None:
    tone = sine(ENGINE_RATE_HZ)
    parts = [tone[start : start + FRAME_SAMPLES] for start in range(0, tone.size, FRAME_SAMPLES)]
    heard = samples_of(encode(parts, rate_hz))
    inner = heard[rate_hz // 10 : -rate_hz // 10]
    time_s = np.arange(rate_hz // 10, rate_hz // 10 + inner.size) / rate_hz
    assert np.abs(inner - 0.5 * np.sin(2 * np.pi * 440.0 * time_s)).max() < 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_what_a_lower_rate_cannot_carry_is_silent_instead_of_folded_back(rate_hz: int) -> None:
    tone_hz = 9000.0
    heard = samples_of(encode([sine(ENGINE_RATE_HZ, tone_hz)], rate_hz))
    inner = heard[rate_hz // 10 : -rate_hz // 10]
    expected = 0.5 if tone_hz < rate_hz / 2 else 0.0
    assert np.sqrt(2 * np.mean(inner**2)) == pytest.approx(expected, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_first_frame_yields_output_at_once(rate_hz: int) -> None:
    assert PcmEncoder(ENGINE_RATE_HZ, rate_hz, "pcm16").encode(sine(FRAME_SAMPLES))


def test_equal_rates_pass_the_samples_through() -> None:
    pcm = sine(FRAME_SAMPLES)
    assert PcmEncoder(ENGINE_RATE_HZ, ENGINE_RATE_HZ, "pcm32f").encode(pcm) == pcm.astype("<f4").tobytes()


def test_pcm16_is_symmetrical_rounded_and_clipped() -> None:
    one_step = 1 / 32767
    pcm = np.array([0, 1, -1, 1.5, -1.5, 0.6 * one_step, -0.6 * one_step, 0.4 * one_step], np.float32)
    encoded = PcmEncoder(ENGINE_RATE_HZ, ENGINE_RATE_HZ, "pcm16").encode(pcm)
    assert np.frombuffer(encoded, "<i2").tolist() == [0, 32767, -32767, 32767, -32767, 1, -1, 0]


def test_pcm32f_keeps_its_headroom() -> None:
    pcm = np.array([1.25, -1.25], np.float32)
    encoded = PcmEncoder(ENGINE_RATE_HZ, ENGINE_RATE_HZ, "pcm32f").encode(pcm)
    assert np.frombuffer(encoded, "<f4").tolist() == [1.25, -1.25]


@pytest.mark.parametrize("encoding", ["pcm16", "pcm32f"])
@pytest.mark.parametrize("rate_hz", [24000, 48000])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(encoding: PcmEncoding, rate_hz: int, broken: float) -> None:
    pcm = sine(FRAME_SAMPLES)
    pcm[17] = broken
    with pytest.raises(SynthesisError):
        PcmEncoder(ENGINE_RATE_HZ, rate_hz, encoding).encode(pcm)


def test_finite_samples_that_overflow_in_the_filter_are_refused() -> None:
    largest = np.finfo(np.float32).max
    with pytest.raises(SynthesisError):
        encode([np.full(FRAME_SAMPLES, largest, np.float32)], 48000, "pcm16")
