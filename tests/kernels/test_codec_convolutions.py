"""Laws of the codec's kernels: each computes what torch's leaf does, and leaves the same state."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.codec import ConvNeXt, last_conv, wave_block
from makima_tts.model.codec_ops import (
    CausalConv,
    Codebooks,
    CodecCall,
    CodecState,
    Snake,
    StateLayout,
    StateRegion,
    samples_of,
    torch_codec_ops,
)
from makima_tts.model.triton.codec import TritonCodebooks, triton_codec_ops, triton_samples
from makima_tts.model.triton.convolutions import SILU, Following, PaddedFeatures, TritonConvolution
from tests.kernels.codecs import DEVICE, in_torch, numbers, slots, weights_of

# Of five slots, not in their order.
SLOTS = (3, 1)


def call_on(layout: StateLayout, frames: int = 1) -> CodecCall:
    """On a state of random numbers, at position 0."""
    position = torch.zeros(5, dtype=torch.int64, device=DEVICE)
    state = CodecState(position, numbers(1, 5, layout.size), torch.empty(0, device=DEVICE))
    return CodecCall.in_place(state, slots(*SLOTS), frames)


def copy_of(call: CodecCall) -> CodecCall:
    """The same for torch's leaves, which compute on a copy."""
    return CodecCall.on_copy(call.state, call.slots, call.frames)


def with_state(x: Tensor, region: StateRegion, call: CodecCall) -> PaddedFeatures:
    """As the launch before would have left it."""
    state = call.conv_state[call.slots][:, region.start : region.start + region.size]
    rows = (state.view(len(x), region.length, x.shape[2]), x)
    return PaddedFeatures(torch.cat(rows, dim=1).contiguous(), region.length)


def close(made: Tensor, expected: Tensor) -> bool:
    return made.shape == expected.shape and bool((made - expected).abs().max() < 1e-4 * expected.std())


def snake(seed: int, channels: int) -> Snake:
    return Snake(numbers(seed, channels).exp() * 3, numbers(seed + 1, channels).exp())


def conv(layout: StateLayout, channels: int, outputs: int, taps: int, dilation: int) -> CausalConv:
    weight = numbers(2, outputs, taps * channels) / (taps * channels) ** 0.5
    region = layout.reserve((taps - 1) * dilation, channels)
    return CausalConv(weight, numbers(3, outputs), taps, dilation, region)


# More rows than a tile, and a window that is not a multiple of a block; fewer rows than the state; one
# channel.
@pytest.mark.parametrize(
    ("channels", "outputs", "taps", "dilation", "time"),
    [(10, 70, 7, 3, 50), (10, 6, 7, 9, 1), (33, 5, 3, 1, 2), (1, 1, 7, 9, 30), (24, 40, 1, 1, 3)],
)
def test_a_convolution_is_that_of_torch_and_leaves_the_same_state(
    channels: int, outputs: int, taps: int, dilation: int, time: int
) -> None:
    layout = StateLayout()
    layout.reserve(1, 5)
    tried, after = conv(layout, channels, outputs, taps, dilation), layout.reserve(4, outputs)
    call, next_snake, x = call_on(layout), snake(4, outputs), numbers(6, 2, time, channels)
    copy = copy_of(call)
    expected = tried(x, copy)
    loaded = call.conv_state[list(SLOTS), after.start :].view(2, 4, outputs).clone()
    launch = TritonConvolution.of(tried)
    launch.follow_with(Following(after, next_snake, is_residual=True))
    made = launch(with_state(x, tried.region, call), call)
    assert made.before_snake is not None
    assert close(made.before_snake, expected)
    assert close(made.values[:, 4:], next_snake(expected))
    assert torch.equal(made.values[:, :4], loaded)
    assert torch.equal(call.conv_state[list(SLOTS)], copy.conv_state)


def test_a_row_is_the_same_in_any_batch_and_however_it_is_split() -> None:
    layout = StateLayout()
    tried = conv(layout, 12, 20, 7, 3)
    launch, x = TritonConvolution.of(tried), numbers(7, 3, 90, 12)
    together, alone = call_on(layout), call_on(layout)
    together = replace(together, slots=slots(2, 0, 3))
    alone = replace(alone, slots=slots(0))
    whole = launch(with_state(x, tried.region, together), together).values
    parts = [
        launch(with_state(part, tried.region, alone), alone).values
        for part in torch.split(x[1:2], [5, 70, 15], dim=1)
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole[1:2])
    assert torch.equal(alone.conv_state[0], together.conv_state[0])


def test_a_product_has_its_norm_its_gate_and_its_residual() -> None:
    weight, x, residual = numbers(9, 2 * 40, 50), numbers(10, 2, 3, 50), numbers(11, 2, 3, 40)
    launch = TritonConvolution(weight, None, activation=SILU, gated=True, eps=1e-3)
    gate, up = F.linear(F.rms_norm(x, (50,), None, 1e-3), weight).chunk(2, dim=-1)
    made = launch(PaddedFeatures(x), call_on(StateLayout(1)), residual=PaddedFeatures(residual))
    assert close(made.values, F.silu(gate) * up + residual)


EXTREMES = torch.tensor([-100.0, -20.0, -3.0, 0.0, 4.0, 6.0, 20.0, 88.0, 89.0, 100.0])


def snaked(x: Tensor, factors: Snake) -> Tensor:
    """[T, C], by a convolution that changes nothing."""
    channels = x.shape[1]
    launch = TritonConvolution(torch.eye(channels).to(DEVICE), torch.zeros(channels).to(DEVICE))
    launch.follow_with(Following(snake=factors))
    return launch(PaddedFeatures(x[None]), call_on(StateLayout(1))).values[0]


def test_a_snake_is_as_exact_as_its_phase() -> None:
    frequency, amplitude = torch.tensor([0.1, 1.0, 7.0, 50.0]).to(DEVICE), torch.ones(4).to(DEVICE)
    x = torch.linspace(-3, 3, 101)[:, None].expand(-1, 4).contiguous().to(DEVICE)
    exact = x.double() + (x.double() * frequency.double()).sin().square()
    # A float32 phase of 150 is known to 8e-6.
    assert (snaked(x, Snake(frequency, amplitude)) - exact).abs().max() < 2e-5
    assert (snaked(x, Snake(frequency, amplitude)) - exact)[:, :2].abs().max() < 1e-6
    assert not snaked(torch.zeros(1, 4).to(DEVICE), Snake(frequency, amplitude)).any()


def test_snakes_are_finite_whatever_their_weights_are() -> None:
    alpha, beta = (grid.flatten().to(DEVICE) for grid in torch.meshgrid(EXTREMES, EXTREMES, indexing="ij"))
    factors = Snake(alpha.exp().clamp(max=1e20), 1.0 / (beta.exp() + 1e-9))
    x = torch.linspace(-1e3, 1e3, 7)[:, None].expand(-1, len(alpha)).contiguous().to(DEVICE)
    assert snaked(x, factors).isfinite().all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_nan_stays_nan() -> None:
    x = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]]).to(DEVICE)
    made = snaked(x, Snake(torch.ones(2).to(DEVICE), torch.ones(2).to(DEVICE)))
    assert not made.isfinite().any()


@pytest.mark.parametrize("time", [1, 9])
def test_a_convnext_block_is_that_of_torch_and_leaves_the_same_state(time: int) -> None:
    layout, weights = StateLayout(), weights_of("windowed").within("decoder.upsample.1.1")
    theirs = ConvNeXt.load(weights, layout, torch_codec_ops(), 48)
    ours = ConvNeXt.load(weights, StateLayout(), triton_codec_ops(), 48)
    call, x = call_on(layout), numbers(12, 2, time, 48)
    copy = copy_of(call)
    padded = with_state(x, StateRegion(0, 6, 48), call)
    assert close(ours(padded, call).values, theirs(x, copy))
    assert torch.equal(call.conv_state[list(SLOTS)], copy.conv_state)


@pytest.mark.parametrize("index", range(4))
def test_a_block_of_odd_sizes_is_that_of_torch_and_leaves_the_same_state(index: int) -> None:
    config, layout = in_torch("odd").config, StateLayout()
    inputs, rate = config.decoder_dim // 2**index, config.upsample_rates[index]
    weights, sizes = weights_of("odd").within(f"decoder.decoder.{index + 1}.block"), (inputs, inputs // 2)
    theirs = list(wave_block(weights, layout, torch_codec_ops(), *sizes, rate=rate))
    ours = wave_block(weights, StateLayout(), triton_codec_ops(), *sizes, rate=rate)
    call, first = call_on(layout), theirs[0]
    assert isinstance(first, CausalConv)
    assert first.snake is not None
    copy, x = copy_of(call), numbers(13, 2, 2, inputs)
    made = with_state(first.snake(x), first.region, call)
    for launches, layer in zip(list(ours), theirs, strict=True):
        made, x = launches(made, call), layer(x, copy)
    assert close(made.values, x)
    assert (call.conv_state[list(SLOTS)] - copy.conv_state).abs().max() < 1e-4


def test_codes_are_summed_and_invalid_ones_read_nothing_beyond_the_table() -> None:
    size = 20
    codebooks = Codebooks(numbers(14, 3 * size, 24), torch.arange(3, device=DEVICE) * size)
    codes = torch.randint(size, (2, 4, 3), generator=torch.Generator().manual_seed(15)).to(DEVICE)
    layout, launch = StateLayout(), TritonCodebooks(codebooks)
    launch.follow_with(Following(layout.reserve(2, 24)))
    call = call_on(layout)
    made = launch(codes, call)
    assert close(made.values[:, 2:], codebooks(codes, call))
    assert torch.equal(made.values[:, :2].flatten(1), call.conv_state[list(SLOTS)])
    codes[0, 1], codes[1, 2] = 10**9, -1
    invalid = launch(codes, call)
    codes[0, 1], codes[1, 2] = size - 1, 0
    assert torch.equal(invalid.values, launch(codes, call).values)


def test_samples_are_bounded_and_nan_stays_nan() -> None:
    layout = StateLayout()
    last = last_conv(in_torch("windowed").config, weights_of("windowed").within("decoder.decoder"), layout)
    last = replace(last, weight=last.weight * 20, snake=None)
    call, x = call_on(layout, frames=3), numbers(16, 2, 70, last.region.channels)
    x[1, 40:] = float("nan")
    made = triton_samples(last)(with_state(x, last.region, call), call)
    theirs = call_on(layout, frames=3)
    expected = samples_of(last)(x, copy_of(theirs))
    assert made.abs().nan_to_num(0.0).max() == 1.0
    assert torch.equal(made.isnan(), expected.isnan())
    assert close(made.nan_to_num(0.0), expected.nan_to_num(0.0))
    assert torch.equal(call.conv_state.nan_to_num(9.0), theirs.state.conv_state.nan_to_num(9.0))
    assert call.state.position.tolist() == theirs.state.position.tolist() == [0, 3, 0, 3, 0]


def test_a_convolution_without_a_following_snake_has_one_result() -> None:
    layout = StateLayout()
    tried = conv(layout, 4, 4, 3, 1)
    call, launch = call_on(layout), TritonConvolution.of(tried)
    launch.follow_with(Following(is_residual=True))
    assert launch(with_state(numbers(17, 2, 3, 4), tried.region, call), call).before_snake is None
