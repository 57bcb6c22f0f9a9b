"""Laws of the codec's encoder: however a clip is sliced, whatever else is encoded, its codes are the same.

T frames · Q codebooks.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from makima_tts.errors import InvalidClip
from makima_tts.model.checkpoint.config import CodecEncoderConfig, load_config
from makima_tts.model.codec_encoder import CodecEncoder
from tests.checkpoints.models import checkpoint_folder
from tests.model.memory_tensors import weights_in_memory
from tests.model.slices import finished, slices, taken_turns
from tests.model.small_codecs import codec_weights
from tests.parity.encoder_clips import ClipCase, make_clip

FRAME_SAMPLES = 1920
RAGGED = ClipCase("ragged", "vibrato", 21 * FRAME_SAMPLES + 961)
SHAPE = "windowed"


def small_config(**changes: object) -> CodecEncoderConfig:
    return load_config(checkpoint_folder(SHAPE)).codec.encoder_config.model_copy(update=changes)


def encoder(
    config: CodecEncoderConfig | None = None,
    weights: dict[str, Tensor] | None = None,
    *,
    codebooks: int = 16,
    dtype: torch.dtype = torch.float32,
) -> CodecEncoder:
    loaded = weights_in_memory(weights or codec_weights(SHAPE), dtype=dtype).within("encoder")
    return CodecEncoder.load(config or small_config(), loaded, codebooks=codebooks)


def clip(seed: int = 7, case: ClipCase = RAGGED) -> Tensor:
    return torch.from_numpy(make_clip(case, seed))


@torch.inference_mode()
def codes_of(pcm: Tensor, by: CodecEncoder | None = None) -> Tensor:
    return finished((by or encoder()).encode(pcm))


@pytest.fixture(scope="module")
def whole() -> Tensor:
    """The codes of the clip, encoded in one piece."""
    return codes_of(clip(), replace(encoder(), wave_frames=1000, code_frames=1000, work_per_slice=10**15))


@settings(deadline=None, max_examples=12)
@given(
    wave_frames=st.integers(1, 25),
    code_frames=st.integers(1, 25),
    work_per_slice=st.sampled_from((1, 10_000, 10**12)),
)
def test_any_slices_come_to_the_same_codes(
    whole: Tensor, wave_frames: int, code_frames: int, work_per_slice: int
) -> None:
    sliced = replace(
        encoder(), wave_frames=wave_frames, code_frames=code_frames, work_per_slice=work_per_slice
    )
    assert torch.equal(codes_of(clip(), sliced), whole)


def test_clips_that_are_encoded_in_turns_do_not_influence_each_other() -> None:
    by = replace(encoder(), wave_frames=1, code_frames=2, work_per_slice=1)
    clips = [clip(1), clip(2), clip(3, ClipCase("short", "chirp", 5000))]
    with torch.inference_mode():
        together = taken_turns(*(by.encode(pcm) for pcm in clips))
    for pcm, codes in zip(clips, together, strict=True):
        assert torch.equal(codes, codes_of(pcm))


def test_an_abandoned_clip_leaves_no_state_behind(whole: Tensor) -> None:
    by = replace(encoder(), wave_frames=1)
    abandoned = by.encode(clip(9))
    with torch.inference_mode():
        next(abandoned)
        next(abandoned)
    abandoned.close()
    assert torch.equal(codes_of(clip(), by), whole)


@pytest.mark.parametrize("frames", [1, 3, 20])
def test_later_samples_do_not_change_earlier_codes(whole: Tensor, frames: int) -> None:
    beginning = codes_of(clip()[: frames * FRAME_SAMPLES])
    assert torch.equal(beginning, whole[:frames])


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(1, 1), (959, 1), (960, 1), (961, 1), (1919, 1), (1920, 1), (1921, 2), (3840, 2), (3841, 3)],
)
def test_an_incomplete_frame_counts_as_a_frame(samples: int, frames: int) -> None:
    codes = codes_of(clip()[:samples])
    assert codes.shape == (frames, 16)
    assert codes.dtype == torch.int64


def test_a_clip_without_sound_is_refused() -> None:
    with pytest.raises(InvalidClip, match="no sound"):
        codes_of(torch.zeros(0))


def test_fewer_codebooks_are_the_first_ones(whole: Tensor) -> None:
    assert torch.equal(codes_of(clip(), encoder(codebooks=5)), whole[:, :5])
    assert torch.equal(codes_of(clip(), encoder(codebooks=1)), whole[:, :1])


def test_a_model_of_less_precision_has_the_same_codes(whole: Tensor) -> None:
    assert torch.equal(codes_of(clip(), encoder(dtype=torch.bfloat16)), whole)


def test_it_yields_at_least_once_a_frame_when_slices_are_small() -> None:
    by = replace(encoder(), wave_frames=1, code_frames=1, work_per_slice=1)
    with torch.inference_mode():
        assert slices(by.encode(clip())) > 2 * 22


def test_the_transformer_looks_back_over_all_of_a_clip() -> None:
    """The convolutions look back over less than a frame."""
    changed = clip()
    changed[: 2 * FRAME_SAMPLES] = 0.0
    assert not torch.equal(codes_of(clip())[4:], codes_of(changed)[4:])


def shortcuts(config: CodecEncoderConfig) -> dict[str, Tensor]:
    """Weights that the small checkpoint lacks: of a convolution beside each residual unit."""
    widths = [config.num_filters * 2**level for level in range(len(config.upsampling_ratios))]
    draw = torch.Generator().manual_seed(5)
    drawn: dict[str, Tensor] = {}
    for level, width in enumerate(widths):
        name = f"encoder.encoder.layers.{1 + 3 * level}.shortcut.conv"
        drawn[f"{name}.weight"] = torch.randn(width, width, 1, generator=draw) / width**0.5
        drawn[f"{name}.bias"] = torch.randn(width, generator=draw) / 10
    return drawn


def fewer_key_heads(weights: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    return {
        name: tensor[:rows] for name, tensor in weights.items() if ".k_proj." in name or ".v_proj." in name
    }


def test_rare_options_of_the_configuration_stream_as_well() -> None:
    config = small_config(pad_mode="replicate", use_conv_shortcut=True, num_key_value_heads=1)
    weights = codec_weights(SHAPE)
    rare = encoder(config, weights | shortcuts(config) | fewer_key_heads(weights, config.head_size))
    piecemeal = replace(rare, wave_frames=1, code_frames=1)
    assert torch.equal(codes_of(clip(), rare), codes_of(clip(), piecemeal))
    assert not torch.equal(codes_of(clip(), rare), codes_of(clip()))
