"""A clip at the rate that encoders want, with silence after it."""

from math import ceil

import numpy as np
import pytest
import torch

from makima_tts.errors import InvalidClip
from makima_tts.model.reference_audio import prepare_reference, with_silence

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)


def noise(samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    draw = np.random.Generator(np.random.PCG64(samples))
    return draw.random(samples, np.float32) - np.float32(0.5)


def test_a_clip_of_24_khz_stays_as_it_is() -> None:
    pcm = noise(5000)
    prepared = prepare_reference(pcm, 24_000)
    assert torch.equal(prepared, torch.from_numpy(pcm))


@pytest.mark.parametrize("rate_hz", [24_000, 44_100])
def test_half_a_second_of_silence_is_appended_unless_another_length_is_asked_for(rate_hz: int) -> None:
    bare = prepare_reference(noise(3000), rate_hz)
    assert torch.equal(with_silence(bare), torch.cat((bare, torch.zeros(12_000))))
    assert torch.equal(with_silence(bare, 1.0), torch.cat((bare, torch.zeros(24_000))))
    assert torch.equal(with_silence(bare, 0.0), bare)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("samples", [1, 1000, 1001, 7919])
def test_the_length_is_that_of_the_clip_rounded_up(rate_hz: int, samples: int) -> None:
    prepared = prepare_reference(noise(samples), rate_hz)
    assert prepared.shape == (ceil(samples * (24_000 / rate_hz)),)
    assert prepared.dtype == torch.float32


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_tone_stays_the_same_tone(rate_hz: int) -> None:
    def tone(rate_hz: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.sin(2 * np.pi * 440 * np.arange(rate_hz // 5) / rate_hz).astype(np.float32)

    prepared = prepare_reference(tone(rate_hz), rate_hz).numpy()
    inside = slice(500, 4300)
    assert np.abs(prepared[inside] - tone(24_000)[inside]).max() < 1e-3


def test_a_clip_of_which_only_a_view_is_given_is_read_as_that() -> None:
    stereo = noise(4000).reshape(2000, 2)
    left = prepare_reference(stereo[:, 0], 16_000)
    assert torch.equal(left, prepare_reference(stereo[:, 0].copy(), 16_000))


def test_a_clip_without_sound_is_refused() -> None:
    with pytest.raises(InvalidClip, match="no sound"):
        prepare_reference(np.zeros(0, np.float32), 44_100)
