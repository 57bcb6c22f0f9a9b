"""Products of rows and a weight in Triton: a row's bits depend neither on other rows nor on their number.

In: rows, a weight, a bias. Out: their product, or parts that sum up to it; nothing is read back. Does not
know: layers, what a row means.

M rows · N outputs · K inputs · S parts of a sum (split K) · I outputs of a gated weight, [2 · I, K].

A row's bits follow from the order in which its products are summed: BLOCK_K, and how many parts a sum has.
Both depend on the weight alone, and rows come in blocks of BLOCK_M, of which most may be empty. Only BLOCK_N
depends on M: it changes which program computes an output, not what.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import Activation

# The least that Hopper's tensor cores multiply at once: fewer rows would be no faster.
BLOCK_M = 64
# An H100 or H200 has 132 multiprocessors, and only loads from all of them together use all of the bandwidth.
_ENOUGH_PROGRAMS = 128
# Of one program: an H100's multiprocessor holds two of them, a consumer card's one.
_SHARED_BYTES = 96 * 1024
_MOST_STAGES = 8
# The widest row of shared memory that is read without bank conflicts.
_BLOCK_BYTES = 128
# Inputs that are worth a program of their own.
_LEAST_PART = 512
_MOST_PARTS = 8


@dataclass(frozen=True, slots=True)
class Blocks:
    """The block of one program: BLOCK_M by ``n``, ``k`` inputs at a time, ``stages`` loads in flight."""

    n: int
    k: int
    stages: int


def split_k(outputs: int, inputs: int) -> int:
    """In how many parts a weight's sums are computed: enough programs where outputs are few."""
    needed: int = _ENOUGH_PROGRAMS // triton.cdiv(outputs, 32)
    return max(1, min(needed, inputs // _LEAST_PART, _MOST_PARTS))


def blocks_of(rows: int, outputs: int, number_bytes: int, *, parts: int = 1, weights: int = 1) -> Blocks:
    """The widest blocks of which there are enough for all multiprocessors.

    Up to BLOCK_M rows memory is the limit, and weights are read once whatever the width: narrow blocks keep
    every multiprocessor loading. Beyond, rows are read again for each block of outputs and weights for each
    block of rows, and blocks get wider as there are more of them. ``weights``: two when gated.
    """
    row_blocks = triton.cdiv(rows, BLOCK_M) * parts
    widths = (128 // weights, 64 // weights, 32)
    enough = (width for width in widths if row_blocks * triton.cdiv(outputs, width) >= _ENOUGH_PROGRAMS)
    width = next(enough, 16)
    stage_bytes = (BLOCK_M + width * weights) * _BLOCK_BYTES
    return Blocks(width, _BLOCK_BYTES // number_bytes, min(_MOST_STAGES, _SHARED_BYTES // stage_bytes))


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """[M, K] by [N, K] → [M, N]."""
    out = torch.empty(len(rows), len(weight), device=rows.device, dtype=dtype)
    _launch(rows, weight, bias, out, parts=1)
    return out


def linear_parts(rows: Tensor, weight: Tensor, parts: int) -> Tensor:
    """[M, K] by [N, K] → float32 [S, M, N], whose sum in order is the product."""
    out = torch.empty(parts, len(rows), len(weight), device=rows.device, dtype=torch.float32)
    _launch(rows, weight, None, out, parts)
    return out


def _launch(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, parts: int) -> None:
    (count, inputs), outputs = rows.shape, len(weight)
    blocks = blocks_of(count, outputs, rows.itemsize, parts=parts)
    part_k = triton.cdiv(triton.cdiv(inputs, blocks.k), parts) * blocks.k
    _linear_kernel[triton.cdiv(outputs, blocks.n), triton.cdiv(count, BLOCK_M), parts](
        rows, rows.stride(0), weight, bias, out,
        count, outputs, inputs, part_k,
        EVEN_K=inputs % blocks.k == 0, BLOCK_M=BLOCK_M, BLOCK_N=blocks.n, BLOCK_K=blocks.k,
        num_stages=blocks.stages,
    )  # fmt: skip


def gated_linear(rows: Tensor, gate_up: Tensor, activation: Activation) -> Tensor:
    """[M, K] by the weights of gate and up, [2 · I, K] → activation(gate) * up, [M, I]."""
    (count, inputs), outputs = rows.shape, len(gate_up) // 2
    out = torch.empty(count, outputs, device=rows.device, dtype=rows.dtype)
    blocks = blocks_of(count, outputs, rows.itemsize, weights=2)
    _gated_linear_kernel[triton.cdiv(outputs, blocks.n), triton.cdiv(count, BLOCK_M)](
        rows, rows.stride(0), gate_up, out,
        count, outputs, inputs,
        GELU=activation == "gelu", EVEN_K=inputs % blocks.k == 0, BLOCK_M=BLOCK_M, BLOCK_N=blocks.n,
        BLOCK_K=blocks.k, num_stages=blocks.stages,
    )  # fmt: skip
    return out


@dataclass(frozen=True, slots=True)
class TritonLinear:
    """Rows [..., K] → [..., N]. ``wide``: float32 whatever the rows are, as logits should be."""

    weight: Tensor
    bias: Tensor | None = None
    wide: bool = False

    def __call__(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, rows.shape[-1])  # [M, K], where it can a view
        if flat.stride(1) != 1:
            flat = flat.contiguous()
        dtype = torch.float32 if self.wide else rows.dtype
        return linear(flat, self.weight, self.bias, dtype).view(*rows.shape[:-1], -1)


@triton.jit(do_not_specialize=["M"])
def _linear_kernel(
    x_ptr, stride_x_m, w_ptr, bias_ptr, out_ptr,
    M, N, K, part_k,
    EVEN_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One block of one part: programs are [blocks of outputs, blocks of rows, parts]."""
    offs_m = (tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    offs_n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    offs_k = tl.arange(0, BLOCK_K)
    part = tl.program_id(2)
    # Out of bounds is zero, and not loaded.
    mask_m, mask_n = offs_m < M, offs_n < N
    x_ptr += offs_m.to(tl.int64) * stride_x_m + offs_k[None, :]
    w_ptr += offs_n * K + offs_k[:, None]
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    end_k = tl.minimum((part + 1) * part_k, K)
    for start_k in range(part * part_k, end_k, BLOCK_K):
        mask_x = mask_m if EVEN_K else mask_m & (start_k + offs_k[None, :] < K)
        mask_w = mask_n if EVEN_K else mask_n & (start_k + offs_k[:, None] < K)
        x = tl.load(x_ptr + start_k, mask=mask_x, other=0.0)
        w = tl.load(w_ptr + start_k, mask=mask_w, other=0.0)
        acc = tl.dot(x, w, acc, input_precision="ieee")
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
    offs_out = (part.to(tl.int64) * M + offs_m) * N + offs_n
    tl.store(out_ptr + offs_out, acc.to(out_ptr.dtype.element_ty), mask=mask_m & mask_n)


@triton.jit(do_not_specialize=["M"])
def _gated_linear_kernel(
    x_ptr, stride_x_m, w_ptr, out_ptr,
    M, N, K,
    GELU: tl.constexpr, EVEN_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One block of both matrices: programs are [blocks of outputs, blocks of rows]."""
    offs_m = (tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    offs_n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    offs_k = tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < M, offs_n < N
    x_ptr += offs_m.to(tl.int64) * stride_x_m + offs_k[None, :]
    w_ptr += offs_n * K + offs_k[:, None]
    w_up_ptr = w_ptr + N * K
    acc_gate = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    acc_up = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start_k in range(0, K, BLOCK_K):
        mask_x = mask_m if EVEN_K else mask_m & (start_k + offs_k[None, :] < K)
        mask_w = mask_n if EVEN_K else mask_n & (start_k + offs_k[:, None] < K)
        x = tl.load(x_ptr + start_k, mask=mask_x, other=0.0)
        w_gate = tl.load(w_ptr + start_k, mask=mask_w, other=0.0)
        w_up = tl.load(w_up_ptr + start_k, mask=mask_w, other=0.0)
        acc_gate = tl.dot(x, w_gate, acc_gate, input_precision="ieee")
        acc_up = tl.dot(x, w_up, acc_up, input_precision="ieee")
    if GELU:
        acc_gate = 0.5 * acc_gate * (1.0 + tl.erf(acc_gate * 0.7071067811865476))
    else:
        acc_gate = acc_gate * tl.sigmoid(acc_gate)
    offs_out = offs_m.to(tl.int64) * N + offs_n
    tl.store(out_ptr + offs_out, (acc_gate * acc_up).to(out_ptr.dtype.element_ty), mask=mask_m & mask_n)
