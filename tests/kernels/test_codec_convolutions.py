"""Laws of the codec's kernels: each computes what its module in torch does, and leaves the same past."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.codec import Codebooks
from makima_tts.model.codec_layers import CausalConv, ConvNeXt, Snake, WaveBlock
from makima_tts.model.codec_state import HistoryPlan, Past
from makima_tts.model.triton.activations import SILU
from makima_tts.model.triton.codec import FusedBlock
from makima_tts.model.triton.codec_ends import CodeSums, Samples
from makima_tts.model.triton.convolutions import FusedConvolution, Next, tile_of
from makima_tts.model.triton.mixing import FusedNext
from makima_tts.model.triton.pasts import Arena, Stretch
from tests.kernels.codecs import DEVICE, copied, layers, numbers, slots, used_state, wave

# Of five slots, not in their order.
WHO = (3, 1)


def arena(plan: HistoryPlan) -> Arena:
    return Arena(numbers(1, 5, plan.size), slots(*WHO))


def with_past(x: Tensor, past: Past, of: Arena) -> Stretch:
    """What the launch before would have left."""
    kept = of.history[of.slots][:, past.start : past.start + past.length * past.channels]
    return Stretch(
        torch.cat((kept.view(len(x), past.length, x.shape[2]), x), dim=1).contiguous(), past.length
    )


def close(made: Tensor, expected: Tensor) -> bool:
    return made.shape == expected.shape and bool((made - expected).abs().max() < 1e-4 * expected.std())


def snake(seed: int, channels: int) -> Snake:
    return Snake(numbers(seed, channels).exp() * 3, numbers(seed + 1, channels).exp())


def conv(plan: HistoryPlan, channels: int, outputs: int, taps: int, dilation: int) -> CausalConv:
    weight = numbers(2, outputs, taps * channels) / (taps * channels) ** 0.5
    past = plan.reserve((taps - 1) * dilation, channels)
    return CausalConv(weight, numbers(3, outputs), taps, dilation, past)


def eagerly(tried: CausalConv, x: Tensor, of: Arena) -> tuple[Tensor, Tensor]:
    """Its outputs, and the arena as it is afterwards."""
    history = of.history.index_select(0, of.slots)
    made = tried(x, history)
    return made, of.history.index_copy(0, of.slots, history)


# More rows than a tile, and a window that is no multiple of what is read at a time; fewer rows than the past;
# channels of one.
@pytest.mark.parametrize(
    ("channels", "outputs", "taps", "dilation", "time"),
    [(10, 70, 7, 3, 50), (10, 6, 7, 9, 1), (33, 5, 3, 1, 2), (1, 1, 7, 9, 30), (24, 40, 1, 1, 3)],
)
def test_a_convolution_is_that_of_torch_and_leaves_the_same_past(
    channels: int, outputs: int, taps: int, dilation: int, time: int
) -> None:
    plan = HistoryPlan()
    plan.reserve(1, 5)
    tried, after = conv(plan, channels, outputs, taps, dilation), plan.reserve(4, outputs)
    kept, sines, x = arena(plan), snake(4, outputs), numbers(6, 2, time, channels)
    expected, history = eagerly(tried, x, kept)
    fetched = kept.history[list(WHO), after.start :].view(2, 4, outputs).clone()
    made = FusedConvolution.of(tried, 1, Next(sines, after), keeps=True)(with_past(x, tried.past, kept), kept)
    assert close(made.features.values, expected)
    assert close(made.stretch.values[:, 4:], sines(expected))
    assert torch.equal(made.stretch.values[:, :4], fetched)
    assert torch.equal(kept.history, history)


def test_a_row_is_the_same_in_any_company_and_however_it_is_cut() -> None:
    plan = HistoryPlan()
    tried = conv(plan, 12, 20, 7, 3)
    launch, x = FusedConvolution.of(tried, 1, Next()), numbers(7, 3, 90, 12)
    history = numbers(8, 4, plan.size)
    together = Arena(history.clone(), slots(2, 0, 3))
    whole = launch(with_past(x, tried.past, together), together).stretch.values
    alone = Arena(history.clone(), slots(0))
    parts = [
        launch(with_past(part, tried.past, alone), alone).stretch.values
        for part in torch.split(x[1:2], [5, 70, 15], dim=1)
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole[1:2])
    assert torch.equal(alone.history[0], together.history[0])


def test_a_product_has_its_norm_its_gate_and_its_sum() -> None:
    weight, x, beside = numbers(9, 2 * 40, 50), numbers(10, 2, 3, 50), numbers(11, 2, 3, 40)
    launch = FusedConvolution(
        weight, None, 1, 1, tile_of(1, weight.dtype), activation=SILU, gate=True, eps=1e-3
    )
    gate, up = F.linear(F.rms_norm(x, (50,), None, 1e-3), weight).chunk(2, dim=-1)
    made = launch(Stretch(x), arena(HistoryPlan(size=1)), beside=Stretch(beside))
    assert close(made.stretch.values, F.silu(gate) * up + beside)


EXTREMES = torch.tensor([-100.0, -20.0, -3.0, 0.0, 4.0, 6.0, 20.0, 88.0, 89.0, 100.0])


def snaked(x: Tensor, factors: Snake) -> Tensor:
    """[T, C], by a convolution that changes nothing."""
    channels = x.shape[1]
    same = CausalConv(
        torch.eye(channels).to(DEVICE), torch.zeros(channels).to(DEVICE), 1, 1, Past(0, 0, channels)
    )
    launch = FusedConvolution.of(same, 1, Next(factors))
    return launch(Stretch(x[None]), arena(HistoryPlan(size=1))).stretch.values[0]


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
def test_what_is_no_number_stays_none() -> None:
    x = torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]]).to(DEVICE)
    made = snaked(x, Snake(torch.ones(2).to(DEVICE), torch.ones(2).to(DEVICE)))
    assert not made.isfinite().any()


@pytest.mark.parametrize("time", [1, 9])
def test_a_mixing_block_is_that_of_torch_and_leaves_the_same_past(time: int) -> None:
    state, x = used_state(), numbers(12, 2, time, 48)
    block = layers("windowed").upsampler.stages[1][1]
    assert isinstance(block, ConvNeXt)
    kept = Arena(state.history, slots(*WHO))
    history = state.history.index_select(0, kept.slots)
    expected, stretch = block(x, history), with_past(x, block.past, kept)
    assert close(FusedNext.of(block, 2, Next())(stretch, kept).values, expected)
    assert torch.equal(state.history[list(WHO)], history)


def blocks(shape: str) -> list[tuple[WaveBlock, int]]:
    """With their inputs."""
    return [(block, len(block.snake.frequency)) for block in wave(shape).blocks]


@pytest.mark.parametrize("index", range(4))
def test_a_block_of_odd_sizes_is_that_of_torch_and_leaves_the_same_past(index: int) -> None:
    state, (block, channels) = used_state("odd", 2), blocks("odd")[index]
    kept, x = Arena(state.history, slots(*WHO)), numbers(13, 2, 2, channels)
    history = state.history.index_select(0, kept.slots)
    expected, upsampling = block(x, history), block.upsampling.conv
    assert isinstance(upsampling, CausalConv)
    stretch = with_past(block.snake(x), upsampling.past, kept)
    made = FusedBlock.of(block, 4, Next())(stretch, kept)
    assert close(made.values, expected)
    assert (state.history[list(WHO)] - history).abs().max() < 1e-4


def test_codes_are_summed_and_those_that_are_none_read_nothing_beyond() -> None:
    table, size = numbers(14, 3 * 20, 24), 20
    offsets = torch.arange(3, device=DEVICE) * size
    codes = torch.randint(size, (2, 4, 3), generator=torch.Generator().manual_seed(15)).to(DEVICE)
    plan = HistoryPlan()
    past = plan.reserve(2, 24)
    kept = arena(plan)
    made = CodeSums(table, 3, past)(codes, kept)
    assert close(made.values[:, 2:], Codebooks(table, offsets)(codes))
    assert torch.equal(made.values[:, :2].flatten(1), kept.history[list(WHO)])
    codes[0, 1], codes[1, 2] = 10**9, -1
    strange = CodeSums(table, 3, past)(codes, kept)
    codes[0, 1], codes[1, 2] = size - 1, 0
    assert torch.equal(strange.values, CodeSums(table, 3, past)(codes, kept).values)


def test_samples_are_bounded_but_for_those_that_are_no_numbers() -> None:
    state, last = copied(used_state()), wave("windowed").last
    assert isinstance(last, CausalConv)
    last = replace(last, weight=last.weight * 20)
    kept, x = Arena(state.history, slots(*WHO)), numbers(16, 2, 70, last.past.channels)
    x[1, 40:] = float("nan")
    expected, history = eagerly(last, x, kept)
    at = state.position[list(WHO)].clone()
    made = Samples(last)(with_past(x, last.past, kept), kept, state, 3)
    assert made.abs().nan_to_num(0.0).max() == 1.0
    assert torch.equal(made.isnan(), expected.squeeze(-1).isnan())
    assert close(made.nan_to_num(0.0), expected.squeeze(-1).clamp(-1, 1).nan_to_num(0.0))
    assert torch.equal(state.history.nan_to_num(9.0), history.nan_to_num(9.0))
    assert torch.equal(state.position[list(WHO)], at + 3)


def test_a_convolution_without_a_snake_has_one_result() -> None:
    plan = HistoryPlan()
    tried = conv(plan, 4, 4, 3, 1)
    kept = arena(plan)
    made = FusedConvolution.of(tried, 1, Next())(with_past(numbers(17, 2, 3, 4), tried.past, kept), kept)
    assert made.features is made.stretch


def test_only_torchs_own_are_fused() -> None:
    with pytest.raises(TypeError, match="this convolution is not one of torch's"):
        FusedConvolution.of(lambda x, _history: x, 1, Next())
    with pytest.raises(TypeError, match="this block is not one of torch's"):
        FusedNext.of(lambda x, _history: x, 1, Next())
