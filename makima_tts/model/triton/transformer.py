"""The transformer's layers in Triton: eight launches a layer, all of which a CUDA graph can capture.

In: rows, their positions, the cache. Out: rows; the cache, written in place; nothing is read back. Does not
know: what a row means, whose slot it is, when it runs.

B batch rows · N positions of one call · M = B · N rows · E hidden size · S parts of a sum · H query heads
· K key heads · D head size · R positions that a cache row holds.

Rows of one prompt, of several, and steps of other streams can be rows of one call: all of a layer's keys
and values are written before any row attends to them. A row's bits depend neither on the other rows of the
call nor on their number. The residual stream is float32 from the first row to the last.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.transformer import (
    Attention,
    KeyValueCache,
    LayerWeights,
    RotaryEmbedding,
    RowPositions,
    run_layers,
)
from makima_tts.model.triton.linear import gated_linear, linear, linear_parts, split_k

# Rows of a cache, at most.
_MOST_ROWS = 4096


@dataclass(frozen=True, slots=True)
class ResidualStream:
    """``source`` [M, E] + ``parts`` [S, M, E] in order + ``bias``; a norm writes the sum to ``total``.

    ``total``: float32 [M, E]; it may be ``source``.
    """

    source: Tensor
    total: Tensor
    parts: Tensor | None = None
    bias: Tensor | None = None

    @classmethod
    def begin(cls, rows: Tensor) -> "ResidualStream":
        return cls(rows, torch.empty(rows.shape, device=rows.device, dtype=torch.float32))

    def norm(self, weight: Tensor, eps: float) -> Tensor:
        """RMSNorm → [M, E], in the weight's precision."""
        count, size = self.source.shape
        out = torch.empty(count, size, device=self.source.device, dtype=weight.dtype)
        _add_norm_kernel[count,](
            self.source, self.source.stride(0), self.parts, self.bias, self.total, weight, out,
            count, size, eps,
            PARTS=0 if self.parts is None else len(self.parts), BLOCK=triton.next_power_of_2(size),
        )  # fmt: skip
        return out

    def plus(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> "ResidualStream":
        """And the product, after a norm has written the sum so far."""
        return ResidualStream(
            self.total, self.total, linear_parts(rows, weight, split_k(*weight.shape)), bias
        )


@dataclass(frozen=True, slots=True)
class TritonLayer:
    """A Layer of [M, E]; ``at``: positions [M, 1], with ``cache_rows``."""

    config: TransformerConfig
    weights: LayerWeights
    rotary: RotaryEmbedding
    attention: Attention

    def qkv(self, x: ResidualStream) -> Tensor:
        normed = x.norm(self.weights.input_norm, self.config.rms_norm_eps)
        return linear(normed, self.weights.qkv, self.weights.qkv_bias, normed.dtype)

    def attend(self, heads: Tensor, at: RowPositions, keys: Tensor, values: Tensor) -> Tensor:
        queries = rotate_and_cache(heads, self.config, self.weights, self.rotary, at, keys, values)
        return self.attention(queries, keys, values, at, self.weights.window).flatten(1)  # [M, H * D]

    def out(self, attended: Tensor, x: ResidualStream) -> ResidualStream:
        return x.plus(attended, self.weights.out, self.weights.out_bias)

    def gate_up(self, x: ResidualStream) -> Tensor:
        normed = x.norm(self.weights.mlp_norm, self.config.rms_norm_eps)
        return gated_linear(normed, self.weights.gate_up, self.config.hidden_act)

    def down(self, gated: Tensor, x: ResidualStream) -> ResidualStream:
        return x.plus(gated, self.weights.down)


class TritonStack:
    """A LayerStack. ``looks_to_limit``: ``attention`` does."""

    is_ragged = True

    def __init__(
        self,
        config: TransformerConfig,
        layers: Iterable[LayerWeights],
        norm: Tensor,
        rotary: RotaryEmbedding,
        attention: Attention,
        *,
        looks_to_limit: bool = False,
    ) -> None:
        self.looks_to_limit = looks_to_limit
        self._layers = [TritonLayer(config, layer, rotary, attention) for layer in layers]
        self._norm, self._eps = norm, config.rms_norm_eps
        self._first_rows = torch.arange(_MOST_ROWS, device=norm.device)  # so that no call counts them

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        batch, count, hidden = rows.shape
        cache_rows = self._first_rows[:batch] if at.cache_rows is None else at.cache_rows
        # An expanded tensor or a column is a view that kernels cannot read.
        flat = RowPositions(
            at.positions.reshape(-1, 1).contiguous(),
            at.limit,
            cache_rows[:, None].expand(batch, count).reshape(-1).contiguous(),
        )
        x = run_layers(self._layers, ResidualStream.begin(rows.reshape(-1, hidden)), flat, cache)
        return x.norm(self._norm, self._eps).view(batch, count, hidden)


def rotate_and_cache(
    heads: Tensor,
    config: TransformerConfig,
    weights: LayerWeights,
    rotary: RotaryEmbedding,
    at: RowPositions,
    keys: Tensor,
    values: Tensor,
) -> Tensor:
    """Queries, keys and values beside each other, [M, (H + 2 · K) · D] → queries, [M, H, D].

    Queries and keys are normed and rotated; keys and values are written to [rows, K, R, D].
    """
    query_heads, key_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_size
    queries = torch.empty(len(heads), query_heads, size, device=heads.device, dtype=heads.dtype)
    _rotate_and_cache_kernel[len(heads), 3](
        heads, weights.query_norm, weights.key_norm, rotary.cos, rotary.sin, at.cache_rows, at.positions,
        queries, keys, values, *keys.stride()[:3], *values.stride()[:3], config.rms_norm_eps,
        HEADS=query_heads, KEY_HEADS=key_heads, HEAD_SIZE=size, BLOCK_H=triton.next_power_of_2(query_heads),
        BLOCK_K=triton.next_power_of_2(key_heads), BLOCK_D=triton.next_power_of_2(size),
    )  # fmt: skip
    return queries


@triton.jit(do_not_specialize=["M"])
def _add_norm_kernel(
    source_ptr, stride_source_m, parts_ptr, bias_ptr, residual_ptr, weight_ptr, out_ptr,
    M, hidden, eps,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row; programs are [M]."""
    row = tl.program_id(0).to(tl.int64)
    offs = tl.arange(0, BLOCK)
    mask = offs < hidden
    x = tl.load(source_ptr + row * stride_source_m + offs, mask=mask, other=0.0).to(tl.float32)
    for part in tl.static_range(PARTS):
        x += tl.load(parts_ptr + (part * M + row) * hidden + offs, mask=mask, other=0.0)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    tl.store(residual_ptr + row * hidden + offs, x, mask=mask)
    scaled = x * tl.rsqrt(tl.sum(x * x, 0) / hidden + eps)
    factors = tl.load(weight_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    # Rounded before the weight is applied, as the reference does.
    normed = scaled.to(out_ptr.dtype.element_ty).to(tl.float32) * factors
    tl.store(out_ptr + row * hidden + offs, normed.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _rotate_and_cache_kernel(
    heads_ptr, query_norm_ptr, key_norm_ptr, cos_ptr, sin_ptr, cache_rows_ptr, positions_ptr, queries_ptr,
    keys_ptr, values_ptr, stride_k_b, stride_k_h, stride_k_r, stride_v_b, stride_v_h, stride_v_r, eps,
    HEADS: tl.constexpr, KEY_HEADS: tl.constexpr, HEAD_SIZE: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A row's queries, its keys or its values; programs are [M, 3]."""
    row, which = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cache_row, position = tl.load(cache_rows_ptr + row), tl.load(positions_ptr + row)
    offs_d = tl.arange(0, BLOCK_D)[None, :]
    head, key_head = tl.arange(0, BLOCK_H)[:, None], tl.arange(0, BLOCK_K)[:, None]
    mask_q = (head < HEADS) & (offs_d < HEAD_SIZE)
    mask_k = (key_head < KEY_HEADS) & (offs_d < HEAD_SIZE)
    heads_ptr += row * (HEADS + 2 * KEY_HEADS) * HEAD_SIZE
    if which == 0:
        query_ptr = heads_ptr + head * HEAD_SIZE
        query = _rotated(
            query_ptr, query_norm_ptr, cos_ptr, sin_ptr, position, offs_d, mask_q, eps, HEAD_SIZE
        )
        offs_query = queries_ptr + (row * HEADS + head) * HEAD_SIZE + offs_d
        tl.store(offs_query, query.to(queries_ptr.dtype.element_ty), mask=mask_q)
    elif which == 1:
        key_ptr = heads_ptr + (HEADS + key_head) * HEAD_SIZE
        key = _rotated(key_ptr, key_norm_ptr, cos_ptr, sin_ptr, position, offs_d, mask_k, eps, HEAD_SIZE)
        offs_key = cache_row * stride_k_b + key_head * stride_k_h + position * stride_k_r
        tl.store(keys_ptr + offs_key + offs_d, key.to(keys_ptr.dtype.element_ty), mask=mask_k)
    else:
        value = tl.load(heads_ptr + (HEADS + KEY_HEADS + key_head) * HEAD_SIZE + offs_d, mask=mask_k)
        offs_value = cache_row * stride_v_b + key_head * stride_v_h + position * stride_v_r
        tl.store(values_ptr + offs_value + offs_d, value.to(values_ptr.dtype.element_ty), mask=mask_k)


@triton.jit
def _rotated(heads_ptr, norm_ptr, cos_ptr, sin_ptr, position, offs_d, mask, eps, HEAD_SIZE: tl.constexpr):
    """Heads [heads, D], normed and rotated: channel d is paired with channel d + D / 2."""
    dtype = norm_ptr.dtype.element_ty
    mask_d, half = offs_d < HEAD_SIZE, HEAD_SIZE // 2
    paired_d = tl.where(offs_d < half, offs_d + half, offs_d - half)
    x = tl.load(heads_ptr + offs_d, mask=mask, other=0.0).to(tl.float32)
    paired = tl.load(heads_ptr + paired_d, mask=mask, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 1) / HEAD_SIZE + eps)[:, None]
    # Rounded where the reference rounds: before the weight, and after it.
    factor = tl.load(norm_ptr + offs_d, mask=mask_d, other=0.0).to(tl.float32)
    x = ((x * scale).to(dtype).to(tl.float32) * factor).to(dtype).to(tl.float32)
    factor = tl.load(norm_ptr + paired_d, mask=mask_d, other=0.0).to(tl.float32)
    paired = ((paired * scale).to(dtype).to(tl.float32) * factor).to(dtype).to(tl.float32)
    offs_angle = position * HEAD_SIZE + offs_d
    cos = tl.load(cos_ptr + offs_angle, mask=mask_d, other=0.0)
    sin = tl.load(sin_ptr + offs_angle, mask=mask_d, other=0.0)
    return x * cos + tl.where(offs_d < half, -paired, paired) * sin
