"""Laws of products on a GPU: what float64 says, and the same bits for a row in any company."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import Activation
from makima_tts.model.triton import linear as linear_kernels
from makima_tts.model.triton.linear import (
    BLOCK_M,
    TritonLinear,
    blocks_of,
    gated_linear,
    linear,
    linear_parts,
    split_k,
)
from tests.kernels.places import DTYPES, numbers

SIZES = [(80, 112), (37, 64), (130, 75)]


def near(made: Tensor, exact: Tensor) -> bool:
    """But for rounding, by the numbers that were multiplied."""
    most = 2e-6 if made.dtype == torch.float32 else 1e-2
    return bool((made.double() - exact).abs().max() < most * exact.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_product_is_what_float64_says(outputs: int, inputs: int, dtype: torch.dtype) -> None:
    rows, weight = numbers(1, 3, inputs, dtype=dtype), numbers(2, outputs, inputs, dtype=dtype)
    bias = numbers(3, outputs, dtype=dtype)
    assert near(linear(rows, weight, bias, dtype), F.linear(rows.double(), weight.double(), bias.double()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_sum_up_to_the_product(dtype: torch.dtype) -> None:
    rows, weight = numbers(1, 3, 300, dtype=dtype), numbers(2, 40, 300, dtype=dtype)
    exact = rows.double() @ weight.double().T
    for parts in (1, 2, 4):
        made = linear_parts(rows, weight, parts)
        assert made.shape == (parts, 3, 40)
        assert near(made.sum(0), exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_a_gate_opens_as_in_torch(activation: Activation, dtype: torch.dtype) -> None:
    rows, weight = numbers(1, 3, 70, dtype=dtype), numbers(2, 2 * 37, 70, dtype=dtype)
    gate, up = (rows.double() @ weight.double().T).chunk(2, dim=1)
    opened = F.silu(gate) if activation == "silu" else F.gelu(gate)
    assert near(gated_linear(rows, weight, activation), opened * up)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_the_same_in_any_company(dtype: torch.dtype) -> None:
    weight, rows = numbers(4, 48, 100, dtype=dtype), numbers(5, 2 * BLOCK_M + 3, 100, dtype=dtype)
    bias = numbers(6, 48, dtype=dtype)
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda some: linear(some, weight, bias, dtype),
        lambda some: linear_parts(some, weight, 2).transpose(0, 1),
        lambda some: gated_linear(some, weight, "silu"),
    ]
    for multiply in ways:
        together = multiply(rows)
        for some in (slice(0, 1), slice(60, 70), slice(len(rows) - 1, None)):
            assert torch.equal(multiply(rows[some]), together[some])


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_any_width_come_to_the_same_bits(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, rows = numbers(7, 256, 100, dtype=dtype), numbers(8, 5, 100, dtype=dtype)
    made = []
    for enough in (2, 16):
        monkeypatch.setattr(linear_kernels, "_ENOUGH_PROGRAMS", enough)
        made.append((linear(rows, weight, None, dtype), gated_linear(rows, weight, "silu")))
    assert all(torch.equal(one, other) for each in made for one, other in zip(each, made[0], strict=True))


def test_a_matrix_takes_rows_of_any_shape_and_heads_make_float32() -> None:
    weight, rows = numbers(9, 24, 32), numbers(10, 3, 2, 32)
    expected = F.linear(rows, weight)
    assert torch.allclose(TritonLinear(weight)(rows), expected, atol=1e-5)
    assert torch.allclose(TritonLinear(weight)(rows[:, -1]), expected[:, -1], atol=1e-5)
    across = numbers(10, 32, 3).T
    assert torch.allclose(TritonLinear(weight)(across), F.linear(across, weight), atol=1e-5)
    for dtype in DTYPES:
        assert TritonLinear(weight.to(dtype), wide=True)(rows.to(dtype)).dtype == torch.float32
        assert TritonLinear(weight.to(dtype))(rows.to(dtype)).dtype == dtype


@pytest.mark.parametrize(("outputs", "inputs"), [(1024, 2048), (1024, 3072), (4096, 1024), (2048, 6144)])
def test_published_matrices_keep_every_processor_loading(outputs: int, inputs: int) -> None:
    """From one row on, without another order of summation for more of them."""
    parts = split_k(outputs, inputs)
    assert inputs // parts >= 512
    for rows in (1, 64, 65, 256, 512):
        blocks = blocks_of(rows, outputs, 2, parts=parts)
        assert -(-outputs // blocks.n) * -(-rows // BLOCK_M) * parts >= 128
        assert blocks.k == 64
        assert blocks.stages * (BLOCK_M + blocks.n) * 128 <= 96 * 1024
