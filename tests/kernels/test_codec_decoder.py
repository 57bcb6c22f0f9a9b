"""Laws of the codec's decoder for GPUs: it is the same decoder, and its states are the same states.

B batch rows · F frames · Q codebooks.
"""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import CodecCall, CodecState, CodecTransformer, torch_codec_ops
from makima_tts.model.triton.codec import TritonCodecTransformer
from makima_tts.model.triton.convolutions import PaddedFeatures
from tests.kernels.codecs import (
    codes,
    copied,
    in_torch,
    in_triton,
    numbers,
    slots,
    snr_db,
    used_state,
    weights_of,
)

LEAST_SNR_DB = 90.0


@torch.inference_mode()
def decoded(by: CodecDecoder, frames: Tensor, state: CodecState, *who: int) -> Tensor:
    return by.decode(frames, state, slots(*who))


def test_it_sounds_like_torchs_and_either_continues_the_others_stream() -> None:
    heard, state = codes(1, 4, rows=2), used_state()
    expected = decoded(in_torch("windowed"), heard, copied(state), 3, 0)
    sound, own = [], state
    for by, part in zip(
        (in_triton("windowed"), in_torch("windowed"), in_triton("windowed")),
        torch.split(heard, [1, 1, 2], dim=1),
        strict=True,
    ):
        other = by.new_state(4)
        for slot in range(4):
            other.put_row(slot, own.row(slot))
        own = other
        sound.append(decoded(by, part, own, 3, 0))
    assert snr_db(torch.cat(sound, dim=1), expected) > LEAST_SNR_DB
    for slot in (1, 2):
        kept = state.row(slot)
        assert all(torch.equal(own.row(slot)[field.name], kept[field.name]) for field in fields(own))


def test_a_stream_is_to_the_bit_what_it_is_alone_and_frame_by_frame() -> None:
    together, alone = used_state(), used_state()
    heard = codes(3, 2, rows=4)
    # A bucket is filled up with rows of a spare slot, and whatever codes lie there.
    heard[2:] = 10**6
    made = decoded(in_triton("windowed"), heard, together, 1, 3, 2, 2)
    parts = [decoded(in_triton("windowed"), part, alone, 1) for part in torch.split(heard[:1], 1, dim=1)]
    assert torch.equal(made[:1], torch.cat(parts, dim=1))
    for field in fields(alone):
        kept = getattr(together, field.name)
        assert torch.equal(kept[1], getattr(alone, field.name)[1])
        assert torch.equal(kept[0], getattr(used_state(), field.name)[0])


@pytest.mark.parametrize("shape", ["odd", "deep"])
@torch.inference_mode()
def test_the_transformer_looks_back_as_torchs_does(shape: str) -> None:
    """Groups of heads; and a window of the published size, with its ring gone around."""
    weights = weights_of(shape).within("decoder.pre_transformer")
    loaded = CodecTransformer.load(in_torch(shape).config, weights)
    loaded = replace(loaded, layers=loaded.layers[-1:])
    theirs, ours = torch_codec_ops().transformer(loaded), TritonCodecTransformer(loaded)
    expected_state = used_state(shape, 3)
    # Long into the sound: entries of the ring are all of some frame.
    expected_state.position.add_(100)
    expected_state.keys_values.copy_(numbers(4, *expected_state.keys_values.shape))
    state = copied(expected_state)
    for frames in (1, 2):
        x = numbers(5, 2, frames, in_torch(shape).config.latent_dim)
        expected = theirs(x, CodecCall.in_place(expected_state, slots(3, 1), frames))
        made = ours(PaddedFeatures(x), CodecCall.in_place(state, slots(3, 1), frames)).values
        assert snr_db(made, expected) > LEAST_SNR_DB
        assert (state.keys_values - expected_state.keys_values).abs().max() < 1e-4
        for each in (state, expected_state):
            each.position.index_add_(0, slots(3, 1), slots(frames, frames))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("shape", ["odd", "windowed", "deep"])
def test_bfloat16_sounds_nearly_the_same(shape: str) -> None:
    decoder, heard = in_triton(shape, torch.bfloat16), codes(7, 30, shape, rows=2)
    made = decoded(decoder, heard, decoder.new_state(3), 2, 0)
    expected = decoded(in_torch(shape), heard, in_torch(shape).new_state(3), 2, 0)
    assert snr_db(made, expected) > 20
    state = decoder.new_state(3)
    parts = [decoded(decoder, part, state, 1) for part in torch.split(heard[1:], [1, 2, 4, 8, 8, 7], dim=1)]
    assert torch.equal(torch.cat(parts, dim=1), made[1:])
