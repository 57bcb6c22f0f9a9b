"""Laws of what leaves the codec: samples as the encoder rounds them, and which frames are loud."""

import numpy as np
import pytest
import torch
from torch import Tensor

from makima_tts.audio.pcm import PcmEncoder
from makima_tts.model import codec_ops
from makima_tts.model.triton import codec
from tests.kernels.codecs import DEVICE, numbers

RATE_HZ = 24_000
ROWS, FRAMES = 2, 3


def sound(count: int) -> Tensor:
    """float32 [B, F * count]: loud and quiet frames, and samples that lie halfway between two steps."""
    x = numbers(1, ROWS, FRAMES, count) * torch.tensor([0.5, 0.001, 0.0032]).to(DEVICE)[:, None]
    halves = (torch.arange(-20, 20) + 0.5) / 32767
    x[1, 1, :40] = halves.to(DEVICE)
    x[0, 0, :3] = torch.tensor([1.0, -1.0, 0.0]).to(DEVICE)
    return x.flatten(1).clamp(-1.0, 1.0)


def loud_frames(pcm: np.ndarray, count: int) -> list[bool]:
    """In which some 10 ms reach -50 dBFS."""
    windows = max(1, round(count / (RATE_HZ * 0.01)))
    framed = pcm.reshape(FRAMES, count)[:, : count - count % windows].reshape(FRAMES, windows, -1)
    return [bool(rms >= 10 ** (-50 / 20)) for rms in np.sqrt(np.square(framed).mean(axis=2)).max(axis=1)]


# A frame of the published codec, one that is no whole number of windows, one that is shorter than a window.
@pytest.mark.parametrize("count", [1920, 1003, 48])
def test_samples_are_as_the_encoder_makes_them_and_frames_as_loud_as_they_are(
    count: int,
) -> None:
    samples = sound(count)
    pcm, loud, finite = codec.finish(samples, FRAMES, RATE_HZ)
    assert (pcm.dtype, loud.shape, bool(finite.all())) == (torch.int16, (ROWS, FRAMES), True)
    for row in range(ROWS):
        floats = samples[row].cpu().numpy()
        assert PcmEncoder(RATE_HZ, RATE_HZ, "pcm16").encode(floats) == pcm[row].cpu().numpy().tobytes()
        assert loud[row].tolist() == loud_frames(floats, count)


def test_half_a_step_is_rounded_to_even() -> None:
    pcm, _loud, _finite = codec.finish(sound(100), FRAMES, RATE_HZ)
    exact = sound(100)[1].double() * 32767
    assert torch.equal(pcm[1].double(), sound(100)[1].mul(32767).round().double())
    assert (pcm[1] - exact).abs().max() < 0.5001


@pytest.mark.parametrize("count", [1920, 50])
def test_it_is_the_same_as_in_torch_and_what_is_no_number_is_silence(count: int) -> None:
    samples = sound(count)
    samples[0, 0], samples[0, -1], samples[1, count] = float("inf"), float("nan"), float("-inf")
    made = codec.finish(samples, FRAMES, RATE_HZ)
    for ours, theirs in zip(made, codec_ops.finish(samples, FRAMES, RATE_HZ), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    assert made[2].tolist() == [[False, True, False], [True, False, True]]
    assert not made[0].view(ROWS, FRAMES, count)[~made[2]].any()
