"""Products of rows and a matrix: each row's bits are its own, whatever other rows there are and however many.

In: rows, a matrix, a bias. Out: their product, or parts that sum up to it; nothing is read back. Does not
know: layers, what a row means.

M rows · N outputs · K inputs · S parts of a sum · I outputs of a gated matrix, [2 · I, K].

A row's bits follow from the order in which its products are added up: how many inputs a block has, and how
many parts a sum. Both depend on the matrix alone, and rows come in blocks of ROWS, of which most may be
empty. Only how many outputs a block has depends on M: it changes who computes, not what.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import Activation

# The least that Hopper's tensor cores multiply at once: fewer rows would be no faster.
ROWS = 64
# An H100 or H200 has 132 processors, and memory is only as fast as all of them together ask for it.
_ENOUGH_PROGRAMS = 128
# Of one program: an H100's processor holds two of them, a consumer card's one.
_SHARED_BYTES = 96 * 1024
_MOST_STAGES = 8
# The widest row of shared memory that is read without conflicts.
_BLOCK_BYTES = 128
# Inputs that are worth a program of their own.
_LEAST_PART = 512
_MOST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Tiles:
    """One program's: ROWS by ``outputs``, of ``inputs`` at a time, ``stages`` of them under way."""

    outputs: int
    inputs: int
    stages: int


def parts_of_sum(outputs: int, inputs: int) -> int:
    """How many parts a matrix's sums are computed in: enough programs where outputs are few."""
    wanted = _ENOUGH_PROGRAMS // blocks(outputs, 32)
    return max(1, min(wanted, inputs // _LEAST_PART, _MOST_PARTS))


def tiles_of(rows: int, outputs: int, number_bytes: int, *, parts: int = 1, matrices: int = 1) -> Tiles:
    """The widest blocks of which there are enough for all processors.

    Up to ROWS rows memory is what limits, and weights are read once whatever the width: narrow blocks keep
    every processor loading. Beyond, rows are read anew for each block of outputs and weights for each of
    rows, and blocks get wider as there are more of them. ``matrices``: two when gated, a block of each.
    """
    row_blocks = blocks(rows, ROWS) * parts
    widths = (128 // matrices, 64 // matrices, 32)
    enough = (width for width in widths if row_blocks * blocks(outputs, width) >= _ENOUGH_PROGRAMS)
    width = next(enough, 16)
    stage_bytes = (ROWS + width * matrices) * _BLOCK_BYTES
    return Tiles(width, _BLOCK_BYTES // number_bytes, min(_MOST_STAGES, _SHARED_BYTES // stage_bytes))


def blocks(count: int, size: int) -> int:
    return -(-count // size)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """[M, K] by [N, K] → [M, N]."""
    out = torch.empty(len(rows), len(weight), device=rows.device, dtype=dtype)
    _multiply(rows, weight, bias, out, parts=1)
    return out


def product_parts(rows: Tensor, weight: Tensor, parts: int) -> Tensor:
    """[M, K] by [N, K] → float32 [S, M, N], whose sum in order is the product."""
    out = torch.empty(parts, len(rows), len(weight), device=rows.device, dtype=torch.float32)
    _multiply(rows, weight, None, out, parts)
    return out


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, parts: int) -> None:
    (count, inputs), outputs = rows.shape, len(weight)
    tiles = tiles_of(count, outputs, rows.itemsize, parts=parts)
    part_inputs = blocks(blocks(inputs, tiles.inputs), parts) * tiles.inputs
    _product[blocks(outputs, tiles.outputs), blocks(count, ROWS), parts](
        rows,
        rows.stride(0),
        weight,
        bias,
        out,
        count,
        outputs,
        inputs,
        part_inputs,
        whole=inputs % tiles.inputs == 0,
        block_rows=ROWS,
        block_outputs=tiles.outputs,
        block_inputs=tiles.inputs,
        num_stages=tiles.stages,
    )


def gated_product(rows: Tensor, gate_up: Tensor, activation: Activation) -> Tensor:
    """[M, K] by the matrices of gate and of what goes through it, [2 · I, K] → [M, I]."""
    (count, inputs), outputs = rows.shape, len(gate_up) // 2
    out = torch.empty(count, outputs, device=rows.device, dtype=rows.dtype)
    tiles = tiles_of(count, outputs, rows.itemsize, matrices=2)
    _gated_product[blocks(outputs, tiles.outputs), blocks(count, ROWS)](
        rows,
        rows.stride(0),
        gate_up,
        out,
        count,
        outputs,
        inputs,
        gelu=activation == "gelu",
        whole=inputs % tiles.inputs == 0,
        block_rows=ROWS,
        block_outputs=tiles.outputs,
        block_inputs=tiles.inputs,
        num_stages=tiles.stages,
    )
    return out


@dataclass(frozen=True, slots=True)
class GpuMatrix:
    """A Product. ``wide``: of float32 whatever the rows are, as what decides about codes should be."""

    weight: Tensor
    bias: Tensor | None = None
    wide: bool = False

    def __call__(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, rows.shape[-1])  # [M, K], where it can a view
        if flat.stride(1) != 1:
            flat = flat.contiguous()
        dtype = torch.float32 if self.wide else rows.dtype
        return product(flat, self.weight, self.bias, dtype).view(*rows.shape[:-1], -1)


@triton.jit(do_not_specialize=["count"])
def _product(
    rows: tl.tensor,
    row_stride: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    outputs: tl.tensor,
    inputs: tl.tensor,
    part_inputs: tl.tensor,
    whole: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
) -> None:
    """One block of one part: programs are [blocks of outputs, blocks of rows, parts]."""
    row = (tl.program_id(1) * block_rows + tl.arange(0, block_rows))[:, None]
    output = (tl.program_id(0) * block_outputs + tl.arange(0, block_outputs))[None, :]
    column = tl.arange(0, block_inputs)
    part = tl.program_id(2)
    # What there is not is zero, and not loaded.
    is_row, is_output = row < count, output < outputs
    rows += row.to(tl.int64) * row_stride + column[None, :]
    weight += output * inputs + column[:, None]
    sums = tl.zeros((block_rows, block_outputs), tl.float32)
    end = tl.minimum((part + 1) * part_inputs, inputs)
    for start in range(part * part_inputs, end, block_inputs):
        here = is_row if whole else is_row & (start + column[None, :] < inputs)
        there = is_output if whole else is_output & (start + column[:, None] < inputs)
        block = tl.load(rows + start, mask=here, other=0.0)
        matrix = tl.load(weight + start, mask=there, other=0.0)
        sums = tl.dot(block, matrix, sums, input_precision="ieee")
    if bias is not None:
        sums += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)
    at = (part.to(tl.int64) * count + row) * outputs + output
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=is_row & is_output)


@triton.jit(do_not_specialize=["count"])
def _gated_product(
    rows: tl.tensor,
    row_stride: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    outputs: tl.tensor,
    inputs: tl.tensor,
    gelu: tl.constexpr,
    whole: tl.constexpr,
    block_rows: tl.constexpr,
    block_outputs: tl.constexpr,
    block_inputs: tl.constexpr,
) -> None:
    """One block of both matrices: programs are [blocks of outputs, blocks of rows]."""
    row = (tl.program_id(1) * block_rows + tl.arange(0, block_rows))[:, None]
    output = (tl.program_id(0) * block_outputs + tl.arange(0, block_outputs))[None, :]
    column = tl.arange(0, block_inputs)
    is_row, is_output = row < count, output < outputs
    rows += row.to(tl.int64) * row_stride + column[None, :]
    weight += output * inputs + column[:, None]
    second = weight + outputs * inputs
    gate = tl.zeros((block_rows, block_outputs), tl.float32)
    up = tl.zeros((block_rows, block_outputs), tl.float32)
    for start in range(0, inputs, block_inputs):
        here = is_row if whole else is_row & (start + column[None, :] < inputs)
        there = is_output if whole else is_output & (start + column[:, None] < inputs)
        block = tl.load(rows + start, mask=here, other=0.0)
        gates = tl.load(weight + start, mask=there, other=0.0)
        ups = tl.load(second + start, mask=there, other=0.0)
        gate = tl.dot(block, gates, gate, input_precision="ieee")
        up = tl.dot(block, ups, up, input_precision="ieee")
    if gelu:
        gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    else:
        gate = gate * tl.sigmoid(gate)
    at = row.to(tl.int64) * outputs + output
    tl.store(out + at, (gate * up).to(out.dtype.element_ty), mask=is_row & is_output)
