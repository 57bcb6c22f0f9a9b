"""Laws of the codec's decoder: neither the split into calls nor the batch changes the samples.

B batch rows · F frames · Q codebooks.
"""

from collections.abc import Iterable
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import CodecState, Snake, torch_codec_ops
from tests.model.memory_tensors import weights_in_memory
from tests.model.small_codecs import codec_decoder, codec_weights, decoder_of

LEAST_SNR_DB = 90.0
# Many times the window and the ring of the shape below.
FRAMES = 45


def decoder(shape: str = "windowed", dtype: torch.dtype = torch.float32) -> CodecDecoder:
    return codec_decoder(shape, dtype)


def codes(seed: int, frames: int = FRAMES) -> Tensor:
    """int64 [1, F, Q]."""
    config = decoder().config
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.codebook_size, (1, frames, config.num_quantizers), generator=generator)


def slots(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


@torch.inference_mode()
def alone(frames: Tensor, by: CodecDecoder | None = None) -> Tensor:
    """All at once, in a fresh state of one slot."""
    by = by or decoder()
    return by.decode(frames, by.new_state(1), slots(0))


@torch.inference_mode()
def in_chunks(frames: Tensor, sizes: Iterable[int], state: CodecState, slot: int) -> Tensor:
    """``sizes`` of chunks; what remains comes last."""
    sound, at = [], 0
    for size in (*sizes, frames.shape[1]):
        chunk = frames[:, at : at + size]
        sound += [decoder().decode(chunk, state, slots(slot))] if chunk.shape[1] else []
        at += size
    return torch.cat(sound, dim=1)


def snr_db(sound: Tensor, expected: Tensor) -> float:
    assert sound.shape == expected.shape
    error = (sound - expected).double().square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(expected.double().square().sum() / error))


def used_state() -> CodecState:
    """Of four slots, in the middle of four different sounds."""
    state = decoder().new_state(4)
    with torch.inference_mode():
        decoder().decode(torch.cat([codes(90 + slot, 21) for slot in range(4)]), state, slots(2, 0, 3, 1))
    return state


def test_the_sound_is_worth_comparing() -> None:
    assert 0.02 < alone(codes(1)).std() < 0.5
    assert alone(codes(1)).abs().max() < 1
    assert snr_db(alone(codes(2)), alone(codes(1))) < 3


@settings(max_examples=12, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 20), max_size=20))
def test_any_split_into_chunks_sounds_as_the_whole(sizes: list[int]) -> None:
    sound = in_chunks(codes(1), sizes, decoder().new_state(2), slot=1)
    assert snr_db(sound, alone(codes(1))) > LEAST_SNR_DB


def test_frame_by_frame_sounds_as_the_whole() -> None:
    sound = in_chunks(codes(1), [1] * FRAMES, decoder().new_state(1), slot=0)
    assert snr_db(sound, alone(codes(1))) > LEAST_SNR_DB


@torch.inference_mode()
def test_a_stream_sounds_the_same_alone_and_in_any_batch() -> None:
    streams, state = [codes(seed, 18) for seed in range(4)], decoder().new_state(6)
    place = (4, 0, 5, 2)
    sound: list[list[Tensor]] = [[], [], [], []]
    done = [0, 0, 0, 0]
    steps = ((1, (0,)), (3, (2, 0, 1)), (2, (3, 1)), (5, (1, 3, 0, 2)), (9, (0, 2)), (8, (3, 1)), (1, (2,)))
    for size, batch in steps:
        frames = torch.cat([streams[who][:, done[who] : done[who] + size] for who in batch])
        pcm = decoder().decode(frames, state, slots(*(place[who] for who in batch)))
        for row, who in enumerate(batch):
            sound[who].append(pcm[row : row + 1])
            done[who] += size
    for who, stream in enumerate(streams):
        assert snr_db(torch.cat(sound[who], dim=1), alone(stream[:, : done[who]])) > LEAST_SNR_DB


@torch.inference_mode()
def test_other_slots_are_not_changed() -> None:
    state = used_state()
    before = [state.row(slot) for slot in range(4)]
    decoder().decode(torch.cat([codes(1, 11), codes(2, 11)]), state, slots(3, 0))
    for slot in (1, 2):
        assert all(torch.equal(tensor, before[slot][name]) for name, tensor in state.row(slot).items())
    for slot in (3, 0):
        assert not any(torch.equal(tensor, before[slot][name]) for name, tensor in state.row(slot).items())


def test_a_slot_that_is_reset_is_a_fresh_one() -> None:
    state = used_state()
    with torch.inference_mode():
        state.reset(slots(3, 1))
    assert snr_db(in_chunks(codes(1), [3], state, slot=1), alone(codes(1))) > LEAST_SNR_DB
    assert state.row(0)["position"] == 21


def test_a_slot_that_held_nan_is_a_fresh_one_after_reset() -> None:
    state = used_state()
    state.conv_state.fill_(torch.nan)
    state.keys_values.fill_(torch.nan)
    state.reset(slots(2))
    assert snr_db(in_chunks(codes(1), [], state, slot=2), alone(codes(1))) > LEAST_SNR_DB


def test_a_slot_continues_from_a_stored_row_any_number_of_times() -> None:
    first, state = decoder().new_state(1), used_state()
    beginning = in_chunks(codes(1), [], first, slot=0)
    kept = first.row(0)
    in_chunks(codes(7), [], first, slot=0)
    for slot in (2, 0):
        state.put_row(slot, kept)
        sound = torch.cat((beginning, in_chunks(codes(2), [5], state, slot)), dim=1)
        assert snr_db(sound, alone(torch.cat((codes(1), codes(2)), dim=1))) > LEAST_SNR_DB


def test_a_stored_row_fits_into_a_state_of_another_precision() -> None:
    state = decoder(dtype=torch.bfloat16).new_state(2)
    state.put_row(1, used_state().row(3))
    assert state.row(1)["position"] == 21
    assert state.row(1)["keys_values"].dtype == torch.bfloat16


def test_a_row_of_another_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"conv_state is \[\d+\], but here it is \[\d+\]"):
        decoder("odd").new_state(1).put_row(0, decoder().new_state(1).row(0))


@pytest.mark.parametrize("changed", [3, 8, 9, 30])
def test_later_frames_never_change_earlier_samples(changed: int) -> None:
    other = torch.cat((codes(1)[:, :changed], codes(2)[:, changed:]), dim=1)
    earlier = changed * decoder().frame_samples
    assert torch.equal(alone(other)[:, :earlier], alone(codes(1))[:, :earlier])
    assert not torch.equal(alone(other)[:, earlier:], alone(codes(1))[:, earlier:])


@torch.inference_mode()
@pytest.mark.parametrize(("shape", "frame_samples"), [("windowed", 48), ("odd", 1920)])
def test_a_frame_is_so_many_samples(shape: str, frame_samples: int) -> None:
    tried = decoder(shape)
    assert tried.frame_samples == frame_samples
    for frames in (1, 2, 8, 9, 17):
        pcm = tried.decode(codes(1, frames).expand(2, -1, -1), tried.new_state(3), slots(2, 0))
        assert (pcm.shape, pcm.dtype) == ((2, frames * frame_samples), torch.float32)


def test_a_state_is_a_few_tensors_with_a_row_for_every_slot() -> None:
    state = decoder().new_state(5)
    tensors = [getattr(state, field.name) for field in fields(state)]
    assert all(tensor.shape[0] == 5 and not tensor.any() for tensor in tensors)


@torch.inference_mode()
def test_decoding_never_asks_what_a_tensor_holds() -> None:
    # On this device there are shapes and no values, as in the capture of a CUDA graph: asking for one raises.
    device = torch.device("meta")
    weights = weights_in_memory(codec_weights("windowed"), device=device)
    tried = decoder_of("windowed", weights, torch_codec_ops())
    state, who = tried.new_state(4), slots(2, 0).to(device)
    state.reset(who)
    assert tried.decode(codes(1).expand(2, -1, -1).to(device), state, who).shape == (2, FRAMES * 48)


def test_bfloat16_sounds_nearly_the_same() -> None:
    assert snr_db(alone(codes(1), decoder(dtype=torch.bfloat16)), alone(codes(1))) > 20


# Of a published checkpoint, |alpha| and |beta| are a few units.
EXTREMES = torch.tensor([-100.0, -20.0, -3.0, 0.0, 4.0, 6.0, 20.0, 88.0, 89.0, 100.0])


def naive_snake(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """As the formula reads, in the precision of the features."""
    return x + (1.0 / (beta.exp() + 1e-9)) * torch.sin(x * alpha.exp()).square()


def snake(alpha: Tensor, beta: Tensor) -> Snake:
    return Snake.load(weights_in_memory({"alpha": alpha, "beta": beta}, dtype=torch.bfloat16), len(alpha))


def test_snakes_are_finite_whatever_their_weights_are() -> None:
    alpha, beta = (grid.flatten() for grid in torch.meshgrid(EXTREMES, EXTREMES, indexing="ij"))
    x = torch.linspace(-1e3, 1e3, 101, dtype=torch.bfloat16)[None, :, None].expand(1, -1, len(alpha))
    assert snake(alpha, beta)(x).isfinite().all()
    assert not naive_snake(x, alpha.bfloat16(), beta.bfloat16()).isfinite().all()


def test_bfloat16_snakes_keep_their_phase() -> None:
    alpha, beta = torch.tensor([0.0, 2.0, 4.0]), torch.zeros(3)
    x = torch.linspace(-3, 3, 1001, dtype=torch.bfloat16)[None, :, None].expand(1, -1, 3)
    exact = naive_snake(x.double(), alpha.double(), beta.double())
    # Half a step of bfloat16 between 2 and 4 is 2 ** -7.
    assert (snake(alpha, beta)(x) - exact).abs().max() < 1.01 * 2**-7
    assert (naive_snake(x, alpha.bfloat16(), beta.bfloat16()) - exact).abs().max() > 0.3


def test_sound_is_finite_whatever_the_weights_of_its_snakes_are() -> None:
    extreme = {
        name: EXTREMES.repeat(len(tensor))[: len(tensor)] if name.endswith((".alpha", ".beta")) else tensor
        for name, tensor in codec_weights("windowed").items()
    }
    assert (
        alone(codes(1), decoder_of("windowed", weights_in_memory(extreme, torch.bfloat16), torch_codec_ops()))
        .isfinite()
        .all()
    )
