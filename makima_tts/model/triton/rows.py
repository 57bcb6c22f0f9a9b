"""What happens to rows between two products: sums, norms, heads that turn, keys and values that are kept.

In: rows, weights, where a row is. Out: rows; the residual stream and the cache, written in place. Does not
know: matrices, layers, what a row means.

M rows · E hidden size · S parts of a sum · H query heads · K key heads · D head size · R positions.
"""

from dataclasses import dataclass

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
    _place_heads[count, 3](
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
        block_heads=triton.next_power_of_2(norms.heads),
        block_key_heads=triton.next_power_of_2(norms.key_heads),
        block=triton.next_power_of_2(size),
    )
    return queries


@triton.jit(do_not_specialize=["count"])
def _add_and_norm(
    source: tl.tensor,
    source_stride: tl.tensor,
    parts: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    size: tl.tensor,
    eps: tl.tensor,
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
    fused: tl.tensor,
    query_norm: tl.tensor,
    key_norm: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    cache_rows: tl.tensor,
    positions: tl.tensor,
    queries: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    key_row_stride: tl.tensor,
    key_head_stride: tl.tensor,
    key_position_stride: tl.tensor,
    value_row_stride: tl.tensor,
    value_head_stride: tl.tensor,
    value_position_stride: tl.tensor,
    eps: tl.tensor,
    heads: tl.constexpr,
    key_heads: tl.constexpr,
    size: tl.constexpr,
    block_heads: tl.constexpr,
    block_key_heads: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """A row's queries, its keys or its values; programs are [M, 3]."""
    row, what = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place, position = tl.load(cache_rows + row), tl.load(positions + row)
    channel = tl.arange(0, block)[None, :]
    head, key_head = tl.arange(0, block_heads)[:, None], tl.arange(0, block_key_heads)[:, None]
    is_mine = (head < heads) & (channel < size)
    is_key = (key_head < key_heads) & (channel < size)
    fused += row * (heads + 2 * key_heads) * size
    if what == 0:
        turned = _turned(fused + head * size, query_norm, cos, sin, position, channel, is_mine, eps, size)
        to_query = queries + (row * heads + head) * size + channel
        tl.store(to_query, turned.to(queries.dtype.element_ty), mask=is_mine)
    elif what == 1:
        source = fused + (heads + key_head) * size
        key = _turned(source, key_norm, cos, sin, position, channel, is_key, eps, size)
        to_key = place * key_row_stride + key_head * key_head_stride + position * key_position_stride
        tl.store(keys + to_key + channel, key.to(keys.dtype.element_ty), mask=is_key)
    else:
        value = tl.load(fused + (heads + key_heads + key_head) * size + channel, mask=is_key)
        to_value = place * value_row_stride + key_head * value_head_stride
        to_value += position * value_position_stride
        tl.store(values + to_value + channel, value.to(values.dtype.element_ty), mask=is_key)


@triton.jit
def _turned(
    source: tl.tensor,
    norm: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    position: tl.tensor,
    channel: tl.tensor,
    inside: tl.tensor,
    eps: tl.tensor,
    size: tl.constexpr,
) -> tl.tensor:
    """Heads [heads, D], normed and turned: channel d with channel d + D / 2."""
    numbers = norm.dtype.element_ty
    is_channel, half = channel < size, size // 2
    opposite = tl.where(channel < half, channel + half, channel - half)
    mine = tl.load(source + channel, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(source + opposite, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(mine * mine, 1) / size + eps)[:, None]
    # Rounded where the reference rounds: before the weight, and after it.
    factor = tl.load(norm + channel, mask=is_channel, other=0.0).to(tl.float32)
    mine = ((mine * scale).to(numbers).to(tl.float32) * factor).to(numbers).to(tl.float32)
    factor = tl.load(norm + opposite, mask=is_channel, other=0.0).to(tl.float32)
    other = ((other * scale).to(numbers).to(tl.float32) * factor).to(numbers).to(tl.float32)
    angle = position * size + channel
    cosine = tl.load(cos + angle, mask=is_channel, other=0.0)
    sine = tl.load(sin + angle, mask=is_channel, other=0.0)
    return mine * cosine + tl.where(channel < half, -other, other) * sine
