"""Laws of the native kernels: a row's result is its own, and what the format of the weights says it is."""

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from makima_tts.model.codec_ops import CausalConv, CodecCall, CodecState, Snake, StateRegion
from makima_tts.model.native import compiler, kernels
from makima_tts.model.native.__main__ import main
from makima_tts.model.native.compiler import AVX2, PLAIN, InstructionSet, build, instruction_sets
from makima_tts.model.native.kernels import GROUP, SIDE_BY_SIDE, PackedConvolution, QuantizedLinear

BITS = (4, 8, 16)
# Of a weight and of a row's number, by the bits of the weights.
STEPS = {4: 127, 8: 127, 16: 4095}


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights_of(matrix: QuantizedLinear) -> Tensor:
    """What is kept, as float64 [O, I]."""
    groups = -(-matrix.inputs // GROUP)
    scales = matrix.scales.view(torch.bfloat16)[:, :groups].double()
    together = matrix.values.view(-1, groups, SIDE_BY_SIDE, GROUP * matrix.bits // 8)
    kept = together.transpose(1, 2).flatten(0, 1)[: matrix.outputs]  # [O, groups, bytes]
    if matrix.bits == 16:
        whole = kept.contiguous().view(torch.int16).double()
    elif matrix.bits == 8:
        whole = kept.double() - 128
    else:
        whole = torch.cat((kept & 15, kept >> 4), dim=2).double() - 8
    return (whole * scales[..., None]).flatten(1)[:, : matrix.inputs]


def rounded(rows: Tensor, steps: int) -> Tensor:
    """What becomes of rows: float64, each group in steps of its largest number."""
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % GROUP)).view(len(rows), -1, GROUP)
    largest = padded.abs().amax(2, keepdim=True).clamp(min=1e-30)
    steps_of = (padded * (steps / largest)).round().double() * largest / steps  # [rows, groups, GROUP]
    return steps_of.flatten(1)[:, : rows.shape[1]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("inputs", [GROUP, 1024, 70, 3 * 1024 + 17])
def test_a_product_is_that_of_what_is_kept(bits: int, inputs: int) -> None:
    matrix = QuantizedLinear.pack(numbers(1, 9, inputs), bits, numbers(2, 9))
    rows = numbers(3, 7, inputs)
    expected = rounded(rows, STEPS[bits]) @ weights_of(matrix).T + numbers(2, 9)
    # A number that lies between two steps may be rounded either way.
    assert (matrix(rows) - expected).abs().max() < 3e-3 * expected.std() if bits < 16 else 1e-3


@pytest.mark.parametrize(("bits", "most"), [(4, 0.11), (8, 0.009), (16, 0.0004)])
def test_more_bits_lose_less(bits: int, most: float) -> None:
    weight, rows = numbers(4, 64, 1024), numbers(5, 16, 1024)
    exact = rows @ weight.T
    lost = (QuantizedLinear.pack(weight, bits)(rows) - exact).square().mean().sqrt() / exact.std()
    assert most / 3 < lost < most


@pytest.mark.parametrize("bits", BITS)
def test_a_row_is_the_same_in_any_company_and_on_any_number_of_threads(bits: int) -> None:
    matrix, rows = QuantizedLinear.pack(numbers(6, 37, 200), bits), numbers(7, 9, 200)
    alone = torch.cat([matrix(row[None]) for row in rows])
    for count in (1, 2, 5):
        with threads(count):
            assert torch.equal(matrix(rows), alone)
            assert torch.equal(matrix(rows[2:5]), alone[2:5])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none_and_in_its_row(bits: int, strange: float) -> None:
    matrix, rows = QuantizedLinear.pack(numbers(8, 10, 130), bits), numbers(9, 3, 130)
    expected = matrix(rows)
    rows[1, 129] = strange
    made = matrix(rows)
    assert not made[1].isfinite().any()
    assert torch.equal(made[[0, 2]], expected[[0, 2]])


def test_zeros_stay_zeros() -> None:
    for bits in BITS:
        assert not QuantizedLinear.pack(torch.zeros(5, 64), bits)(torch.zeros(2, 64)).any()


def convolution(channels: int, outputs: int, taps: int, dilation: int, *, snake: bool) -> PackedConvolution:
    factors = Snake(numbers(11, channels).exp(), numbers(12, channels).exp()) if snake else None
    weight = numbers(10, outputs, taps * channels) / (taps * channels) ** 0.5
    region = StateRegion(3, (taps - 1) * dilation, channels)
    return PackedConvolution.pack(CausalConv(weight, numbers(13, outputs), taps, dilation, region, factors))


def call_on(conv_state: Tensor) -> CodecCall:
    """A call whose leaves use this conv state only, [B, N]."""
    nothing = torch.empty(0)
    return CodecCall(CodecState(nothing, conv_state, nothing), nothing, 0, conv_state)


def in_torch(conv: PackedConvolution, x: Tensor, weight: Tensor) -> Tensor:
    """[B, T, C], from the beginning of sound, in float64."""
    x = x.double()
    if conv.snake is not None:
        x = x + (x * conv.snake.frequency).sin().square() * conv.snake.amplitude
    taps = conv.weight.shape[1]
    kernel = weight.view(len(weight), taps, conv.region.channels).transpose(1, 2).double()
    padded = torch.nn.functional.pad(x.transpose(1, 2), ((taps - 1) * conv.dilation, 0))
    return (torch.conv1d(padded, kernel, dilation=conv.dilation) + conv.bias[:, None]).transpose(1, 2)


SHAPES = [(96, 10, 7, 9), (40, 3, 3, 1), (1030, 5, 2, 1), (8, 64, 1, 1)]


@pytest.mark.parametrize(("channels", "outputs", "taps", "dilation"), SHAPES)
@pytest.mark.parametrize("snake", [False, True])
def test_a_convolution_is_that_of_torch(
    channels: int, outputs: int, taps: int, dilation: int, snake: bool
) -> None:
    conv = convolution(channels, outputs, taps, dilation, snake=snake)
    weight = numbers(10, outputs, taps * channels) / (taps * channels) ** 0.5
    x, residual = numbers(14, 2, 37, channels), numbers(15, 2, 37, outputs)
    call = call_on(torch.zeros(2, 3 + (taps - 1) * dilation * channels))
    expected = in_torch(conv, x, weight) + residual
    assert (conv(x, call, residual=residual) - expected).abs().max() < 5e-3


@pytest.mark.parametrize(("channels", "outputs", "taps", "dilation"), SHAPES)
def test_a_convolution_streams_to_the_bit(channels: int, outputs: int, taps: int, dilation: int) -> None:
    """In calls of one step, of many, beside another stream; only its own region of the state is written."""
    conv = convolution(channels, outputs, taps, dilation, snake=True)
    x, room = numbers(16, 2, 41, channels), (taps - 1) * dilation * channels
    whole = conv(x, call_on(torch.zeros(2, 3 + room)))
    state = numbers(17, 1, 3 + room + 5)
    before = state.clone()
    state[:, 3 : 3 + room] = 0
    with threads(3):
        parts = [conv(part, call_on(state)) for part in torch.split(x[1:], [1, 3, 1, 30, 6], dim=1)]
    assert torch.equal(torch.cat(parts, dim=1), whole[1:])
    assert torch.equal(state[:, :3], before[:, :3])
    assert torch.equal(state[:, 3 + room :], before[:, 3 + room :])


def test_a_snake_of_a_huge_phase_is_still_a_number() -> None:
    conv = convolution(8, 4, 1, 1, snake=True)
    assert conv(torch.full((1, 1, 8), 1e9), call_on(torch.zeros(1, 3))).isfinite().all()


TRIED = [each for each in (AVX2, PLAIN) if each in instruction_sets()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries of the instruction_sets below this machine's, compiled side by side."""
    folder = tmp_path_factory.mktemp("kernels")
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(build, folder=folder), TRIED))
    return folder


def test_every_instruction_set_of_this_kind_of_machine_is_built_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quickly: what is compiled well is tried below."""
    quick = ["-O0" if flag == "-O3" else flag for flag in compiler._FLAGS]
    monkeypatch.setattr(compiler, "_FLAGS", tuple(quick))
    main(tmp_path / "built")
    made = capsys.readouterr().out.splitlines()
    assert {str(tmp_path / "built" / target.file_name) for target in instruction_sets()} <= set(made)
    assert all(Path(each).stat().st_size for each in made)


@pytest.mark.parametrize("target", TRIED)
def test_every_level_computes_the_same(
    target: InstructionSet, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last bits of floats: each has an order of summation of its own."""
    matrices = [QuantizedLinear.pack(numbers(18, 21, 300), bits) for bits in BITS]
    conv = convolution(96, 10, 7, 9, snake=True)
    rows, x = numbers(19, 5, 300), numbers(20, 1, 50, 96)
    room = torch.zeros(1, 3 + 54 * 96)
    expected = [matrix(rows) for matrix in matrices] + [conv(x, call_on(room.clone()))]
    library = kernels.declared(ctypes.CDLL(str(built / target.file_name)))
    monkeypatch.setattr(kernels, "functions", lambda: library)
    made = [matrix(rows) for matrix in matrices] + [conv(x, call_on(room.clone()))]
    for ours, theirs in zip(made, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.std()
    packed_here = [QuantizedLinear.pack(numbers(18, 21, 300), bits) for bits in BITS]
    for ours_packed, theirs_packed in zip(packed_here, matrices, strict=True):
        assert torch.equal(ours_packed.values, theirs_packed.values)


def test_several_callers_at_once_get_what_each_asked_for() -> None:
    """One has the threads, the others do without."""
    matrix = QuantizedLinear.pack(numbers(21, 300, 512), 8)
    asked = [numbers(seed, 4, 512) for seed in range(24)]
    expected = [matrix(rows) for rows in asked]
    with threads(3), ThreadPoolExecutor(4) as callers:
        for made, right in zip(callers.map(matrix, asked * 5), expected * 5, strict=True):
            assert torch.equal(made, right)
