"""What happens to rows between two products: sums, norms, heads that turn, keys and values that are kept.

In: rows, weights, where a row is. Out: rows; the residual stream and the cache, written in place. Does not
know: matrices, layers, what a row means.

M rows · E hidden size · S parts of a sum · H query heads · K key heads · D head size · R positions.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.layers import Rotation


@dataclass(frozen=True, slots=True)
class Places:
    """Where rows are: rows of a cache and positions there, int64 [M] each; ``limit`` is beyond them all."""

    cache_rows: Tensor
    positions: Tensor
    limit: int


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """How many heads there are, and what they are normed with: each [D]."""

    heads: int
    key_heads: int
    query: Tensor
    key: Tensor
    eps: float


def add_and_norm(
    source: Tensor, parts: Tensor | None, bias: Tensor | None, residual: Tensor, weight: Tensor, eps: float
) -> Tensor:
    """``source`` [M, E] + ``parts`` [S, M, E] in order + ``bias`` → ``residual``; its RMSNorm → [M, E].

    ``source`` may be ``residual``. What is returned has the weight's numbers.
    """
    count, size = source.shape
    out = torch.empty(count, size, device=source.device, dtype=weight.dtype)
    _add_and_norm[count,](
        source,
        source.stride(0),
        parts,
        bias,
        residual,
        weight,
        out,
        count,
        size,
        eps,
        summed=0 if parts is None else len(parts),
        block=triton.next_power_of_2(size),
    )
    return out


def place_heads(
    fused: Tensor, norms: HeadNorms, rotation: Rotation, places: Places, keys: Tensor, values: Tensor
) -> Tensor:
    """Queries, keys and values beside each other, [M, (H + 2 · K) · D] → queries, [M, H, D].

    Queries and keys are normed and turned; keys and values go to their places, in [rows, K, R, D].
    """
    count, size = len(fused), keys.shape[-1]
    queries = torch.empty(count, norms.heads, size, device=fused.device, dtype=fused.dtype)
    _place_heads[count, norms.heads + 2 * norms.key_heads](
        fused,
        norms.query,
        norms.key,
        rotation.cos,
        rotation.sin,
        places.cache_rows,
        places.positions,
        queries,
        keys,
        values,
        *keys.stride()[:3],
        *values.stride()[:3],
        norms.eps,
        heads=norms.heads,
        key_heads=norms.key_heads,
        size=size,
        block=triton.next_power_of_2(size),
        num_warps=1,
    )
    return queries


@triton.jit(do_not_specialize=["count"])
def _add_and_norm(
    source: Any,
    source_stride: Any,
    parts: Any,
    bias: Any,
    residual: Any,
    weight: Any,
    out: Any,
    count: Any,
    size: Any,
    eps: Any,
    summed: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One row; programs are [M]."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    inside = column < size
    wide = tl.load(source + row * source_stride + column, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(summed):
        wide += tl.load(parts + (part * count + row) * size + column, mask=inside, other=0.0)
    if bias is not None:
        wide += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(residual + row * size + column, wide, mask=inside)
    scaled = wide * tl.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    factors = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    # Rounded before the weight is applied, as the reference does.
    normed = scaled.to(out.dtype.element_ty).to(tl.float32) * factors
    tl.store(out + row * size + column, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _place_heads(
    fused: Any,
    query_norm: Any,
    key_norm: Any,
    cos: Any,
    sin: Any,
    cache_rows: Any,
    positions: Any,
    queries: Any,
    keys: Any,
    values: Any,
    key_row_stride: Any,
    key_head_stride: Any,
    key_position_stride: Any,
    value_row_stride: Any,
    value_head_stride: Any,
    value_position_stride: Any,
    eps: Any,
    heads: tl.constexpr,
    key_heads: tl.constexpr,
    size: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One head of one row; programs are [M, H + 2 · K]."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.arange(0, block)
    inside = channel < size
    source = fused + (row * (heads + 2 * key_heads) + head) * size
    place, position = tl.load(cache_rows + row), tl.load(positions + row)
    if head < heads:
        turned = _turned(source, query_norm, cos, sin, position, channel, inside, eps, size)
        tl.store(
            queries + (row * heads + head) * size + channel,
            turned.to(queries.dtype.element_ty),
            mask=inside,
        )
    elif head < heads + key_heads:
        turned = _turned(source, key_norm, cos, sin, position, channel, inside, eps, size)
        at = place * key_row_stride + (head - heads) * key_head_stride + position * key_position_stride
        tl.store(keys + at + channel, turned.to(keys.dtype.element_ty), mask=inside)
    else:
        at = place * value_row_stride + (head - heads - key_heads) * value_head_stride
        at += position * value_position_stride
        value = tl.load(source + channel, mask=inside)
        tl.store(values + at + channel, value.to(values.dtype.element_ty), mask=inside)


@triton.jit
def _turned(
    source: Any,
    norm: Any,
    cos: Any,
    sin: Any,
    position: Any,
    channel: Any,
    inside: Any,
    eps: Any,
    size: tl.constexpr,
) -> Any:
    """A head's channels, normed and turned: channel d with channel d + D / 2."""
    half: tl.constexpr = size // 2
    opposite = tl.where(channel < half, channel + half, channel - half)
    mine = tl.load(source + channel, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(source + opposite, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(mine * mine, 0) / size + eps)
    mine = _normed(mine, scale, norm, channel, inside)
    other = _normed(other, scale, norm, opposite, inside)
    angle = position * size + channel
    cosine = tl.load(cos + angle, mask=inside, other=0.0)
    sine = tl.load(sin + angle, mask=inside, other=0.0)
    return mine * cosine + tl.where(channel < half, -other, other) * sine


@triton.jit
def _normed(wide: Any, scale: Any, norm: Any, channel: Any, inside: Any) -> Any:
    """Rounded where the reference rounds: before the weight, and after it."""
    numbers = norm.dtype.element_ty
    factor = tl.load(norm + channel, mask=inside, other=0.0).to(tl.float32)
    return ((wide * scale).to(numbers).to(tl.float32) * factor).to(numbers).to(tl.float32)
