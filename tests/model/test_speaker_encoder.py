"""Laws of the speaker encoder and of the spectrogram that it listens to."""

from dataclasses import replace
from math import log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file
from torch import Tensor

from makima_tts.errors import InvalidClip, TtsUnavailable
from makima_tts.model.checkpoint.config import MODEL_WEIGHTS, load_config
from makima_tts.model.reference_audio import RATE_HZ, SliceBudget
from makima_tts.model.speaker_encoder import MelSpectrogram, SpeakerEncoder, mel_filters, reflect_pad
from tests.checkpoints.models import checkpoint_folder, small_model
from tests.model.memory_tensors import weights_in_memory
from tests.model.slices import finished, slices, taken_turns
from tests.parity.encoder_clips import ClipCase, make_clip

SHAPE = "odd"
CLIP = ClipCase("some", "vibrato", 20_011)


def encoder() -> SpeakerEncoder:
    return small_model(SHAPE).speaker_encoder


def clip(seed: int = 3, case: ClipCase = CLIP) -> Tensor:
    return torch.from_numpy(make_clip(case, seed))


@torch.inference_mode()
def embedded(pcm: Tensor, by: SpeakerEncoder | None = None) -> Tensor:
    return finished((by or encoder()).embed(pcm))


@pytest.mark.parametrize("work", [10_000, 300_000, 10**15])
def test_slices_of_any_size_come_to_the_same_vector(work: int) -> None:
    sliced = embedded(clip(), replace(encoder(), work_per_slice=work))
    torch.testing.assert_close(sliced, embedded(clip()), rtol=1e-5, atol=1e-5)


def test_clips_that_are_encoded_in_turns_do_not_influence_each_other() -> None:
    by = replace(encoder(), work_per_slice=50_000)
    clips = [clip(1), clip(2), clip(3, ClipCase("short", "chirp", 5000))]
    with torch.inference_mode():
        together = taken_turns(*(by.embed(pcm) for pcm in clips))
    for pcm, vector in zip(clips, together, strict=True):
        assert torch.equal(vector, embedded(pcm, by))


def test_the_smaller_its_slices_the_more_often_it_yields() -> None:
    with torch.inference_mode():
        often, seldom, never = (
            slices(replace(encoder(), work_per_slice=work).embed(clip())) for work in (10**5, 10**6, 10**15)
        )
    assert often > seldom > never == 0


def test_different_voices_have_different_vectors() -> None:
    assert torch.cosine_similarity(embedded(clip(1)), embedded(clip(2)), dim=0) < 0.9999


def test_the_shortest_clip_that_is_taken_has_a_vector() -> None:
    shortest = clip()[: encoder().min_samples]
    assert embedded(shortest).isfinite().all()


@pytest.mark.parametrize("missing", [1, 1000])
def test_a_clip_that_is_too_short_is_refused(missing: int) -> None:
    with pytest.raises(InvalidClip, match="too short"):
        embedded(clip()[: encoder().min_samples - missing])


def test_the_published_encoder_takes_clips_from_53_ms_on() -> None:
    assert encoder().min_samples == 1280


def test_it_is_exact_in_a_model_of_less_precision() -> None:
    vector = embedded(clip(), small_model(SHAPE, torch.bfloat16).speaker_encoder)
    assert vector.dtype == torch.float32
    assert torch.equal(vector, embedded(clip()))


def test_tensors_that_do_not_fit_the_configuration_are_named() -> None:
    folder = checkpoint_folder(SHAPE)
    weights = weights_in_memory(load_file(folder / MODEL_WEIGHTS)).within("speaker_encoder")
    config = load_config(folder).speaker_encoder_config.model_copy(update={"enc_attention_channels": 5})
    with pytest.raises(TtsUnavailable, match=r"speaker_encoder\.asp\.tdnn\.conv\.weight"):
        SpeakerEncoder.load(config, weights)


@settings(deadline=None, max_examples=30)
@given(before=st.integers(0, 4), after=st.integers(0, 4), length=st.integers(5, 9))
def test_reflected_ends_are_those_of_torch(before: int, after: int, length: int) -> None:
    x = torch.arange(length * 2.0).view(length, 2)
    theirs = F.pad(x.T[None], (before, after), mode="reflect")[0].T
    assert torch.equal(reflect_pad(x, before, after), theirs)


def spectrogram(pcm: Tensor, bands: int = 128) -> Tensor:
    mel = MelSpectrogram.of(bands, torch.device("cpu"))
    return finished(mel(pcm, SliceBudget(10**6)))


@pytest.mark.parametrize("samples", [1280, 1281, 5119, 5120])
def test_there_is_a_spectrogram_frame_for_every_whole_hop(samples: int) -> None:
    assert spectrogram(torch.rand(samples)).shape == (samples // 256, 128)


@pytest.mark.parametrize("tone_hz", [440.0, 1000.0, 5000.0, 11_000.0])
def test_a_tone_is_loudest_in_the_band_around_it(tone_hz: float) -> None:
    tone = torch.sin(2 * torch.pi * tone_hz * torch.arange(8000, dtype=torch.float64) / RATE_HZ).float()
    loudest = int(spectrogram(tone)[10].argmax())
    band = torch.from_numpy(mel_filters(128))[loudest].nonzero()[:, 0] * RATE_HZ / 1024
    assert band.min() - 24 <= tone_hz <= band.max() + 24


def test_silence_is_as_faint_as_the_spectrogram_goes() -> None:
    """The power's floor, 1e-9, comes through a filter of small area: below 1e-5 all is 1e-5."""
    assert spectrogram(torch.zeros(4000)).max() == pytest.approx(log(1e-5), abs=1e-4)
