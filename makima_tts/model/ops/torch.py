"""The leaves of torch: matrices, and the layers of a transformer, on any device.

In: rows, their positions, weights as they were loaded. Out: rows; the cache, written in place. Does not know:
what a row means, whose slot it is.

B batch rows · N positions of one call · E hidden size · H query heads · K key heads · D head size
· R positions that a cache row holds · L positions of them that are looked at.

What one batch row comes to depends on no other row, on CPUs to the last bit (``linear``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.transformer import (
    ACTIVATIONS,
    KeyValueCache,
    LayerWeights,
    RotaryEmbedding,
    RowPositions,
    run_layers,
)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[B, …, inputs] by [outputs, inputs] → [B, …, outputs], each batch row as if it were alone.

    In fp32 on a CPU one row at a time: matrix libraries sum in another order for another number of rows, and
    the last bit can decide a code. There the time is that of reading the weights, and one row is enough to
    read them as fast as memory allows.
    """
    if len(rows) == 1 or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return F.linear(rows, weight, bias)
    return torch.cat([F.linear(row, weight, bias) for row in torch.split(rows, 1)])


def rms_norm(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv:1910.07467) over the last dimension, in float32 whatever the rows are."""
    wide = rows.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * scaled.to(rows.dtype)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """[B, H, N, D] over [B, K, L, D] → [B, H, N, D]; softmax in float32.

    Spelled out as matrix products: torch's fused kernel chooses its order of summation by the batch.
    """
    batch, heads, count, size = queries.shape
    groups = heads // keys.shape[1]
    grouped = queries.reshape(batch, heads // groups, groups * count, size)  # [B, K, G * N, D]
    scores = (grouped @ keys.transpose(-1, -2)).float() * size**-0.5  # [B, K, G * N, L]
    scores = scores.view(batch, heads // groups, groups, count, -1)
    weights = scores.masked_fill(~mask.unsqueeze(1), float("-inf")).softmax(-1).to(values.dtype)
    attended: Tensor = weights.view(batch, heads // groups, groups * count, -1) @ values  # [B, K, G * N, D]
    return attended.reshape(batch, heads, count, size)


def attend_fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """As ``attend``, by torch's fused kernel: its bits may depend on other batch rows."""
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, enable_gqa=queries.shape[1] != keys.shape[1]
    )


def rms_norm_fused(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As ``rms_norm``, but that bfloat16 is rounded after the weight is applied."""
    return F.rms_norm(rows, weight.shape, weight, eps)


@dataclass(frozen=True, slots=True)
class Functions:
    """Three functions as above, which differ in their last bits."""

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


# A code can depend on the last bit: rows are computed as if they were alone, and in the reference's order.
EXACT = Functions(linear, rms_norm, attend)
# A sample does not.
FUSED = Functions(F.linear, rms_norm_fused, attend_fused)


def torch_attention(
    queries: Tensor, keys: Tensor, values: Tensor, at: RowPositions, window: int | None
) -> Tensor:
    """An Attention. Copies all positions below the limit; its bits may depend on the number of rows."""
    keys, values = (cached[:, :, : at.limit][at.cache_rows] for cached in (keys, values))  # [M, K, L, D]
    return attend(queries.unsqueeze(2), keys, values, at.mask(window)).squeeze(2)


@dataclass(frozen=True, slots=True)
class TorchLinear:
    """``weight``: [outputs, inputs]. Rows [B, …, inputs] → [B, …, outputs]."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class TorchCall:
    """What the layers of one call share. ``index``: where in [B, K, R, D] its keys and values are written.

    ``cache_rows``: int64 [B], whose keys are looked at; None: the first B. ``masks``: by window, see
    RowPositions.
    """

    index: tuple[Tensor, slice, Tensor]
    limit: int
    cache_rows: Tensor | None
    rotary: RotaryEmbedding
    masks: dict[int | None, Tensor]

    def visible(self, cached: Tensor, batch: int) -> Tensor:
        """[rows, K, R, D] → [B, K, L, D]: a view of the first rows, or a copy of others."""
        below = cached[:, :, : self.limit]
        return below[:batch] if self.cache_rows is None else below.index_select(0, self.cache_rows)


@dataclass(frozen=True, slots=True)
class TorchLayer:
    """A Layer of [B, N, E]."""

    config: TransformerConfig
    weights: LayerWeights
    functions: Functions

    def qkv(self, x: Tensor) -> Tensor:
        normed = self.functions.rms_norm(x, self.weights.input_norm, self.config.rms_norm_eps)
        return self.functions.linear(normed, self.weights.qkv, self.weights.qkv_bias)

    def attend(self, heads: Tensor, at: TorchCall, keys: Tensor, values: Tensor) -> Tensor:
        config, batch = self.config, len(heads)
        shares = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        split = heads.view(*heads.shape[:2], -1, config.head_size)  # [B, N, H + 2 * K, D]
        query, key, value = torch.split(split, shares, dim=2)
        keys[at.index] = at.rotary.rotate(self._normed(key, self.weights.key_norm))
        values[at.index] = value
        attended = self.functions.attend(
            at.rotary.rotate(self._normed(query, self.weights.query_norm)).transpose(1, 2),
            at.visible(keys, batch),
            at.visible(values, batch),
            at.masks[self.weights.window],
        )
        return attended.transpose(1, 2).flatten(2)  # [B, N, H * D]

    def out(self, attended: Tensor, x: Tensor) -> Tensor:
        return x + self.functions.linear(attended, self.weights.out, self.weights.out_bias)

    def gate_up(self, x: Tensor) -> Tensor:
        normed = self.functions.rms_norm(x, self.weights.mlp_norm, self.config.rms_norm_eps)
        gate_up = self.functions.linear(normed, self.weights.gate_up, None)
        gate, up = gate_up.chunk(2, dim=-1)  # [B, N, …] each
        return ACTIVATIONS[self.config.hidden_act](gate) * up

    def down(self, gated: Tensor, x: Tensor) -> Tensor:
        return x + self.functions.linear(gated, self.weights.down, None)

    def _normed(self, heads: Tensor, norm: Tensor | None) -> Tensor:
        return heads if norm is None else self.functions.rms_norm(heads, norm, self.config.rms_norm_eps)


class TorchStack:
    """A LayerStack. ``rotary`` None: the cache is a ring, whose positions have no last one."""

    looks_to_limit = True
    is_ragged = False

    def __init__(
        self,
        config: TransformerConfig,
        layers: Iterable[LayerWeights],
        norm: Tensor,
        rotary: RotaryEmbedding | None,
        functions: Functions = EXACT,
    ) -> None:
        self._layers = [TorchLayer(config, layer, functions) for layer in layers]
        self._config, self._norm, self._rotary, self._functions = config, norm, rotary, functions

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        if self._rotary is None:
            call = _ring_call(self._config, self._layers, at, cache.positions)
        else:
            call = self._call(rows, at, self._rotary)
        x = run_layers(self._layers, rows, call, cache)
        return self._functions.rms_norm(x, self._norm, self._config.rms_norm_eps)

    def _call(self, rows: Tensor, at: RowPositions, rotary: RotaryEmbedding) -> TorchCall:
        first = torch.arange(len(rows), device=rows.device)
        batch = (first if at.cache_rows is None else at.cache_rows).unsqueeze(1)  # [B, 1]
        return TorchCall(
            index=(batch, slice(None), at.positions),
            limit=at.limit,
            cache_rows=None if _are_first(at.cache_rows) else at.cache_rows,
            rotary=rotary.at(at.positions, rows.dtype),
            masks={window: at.mask(window) for window in _windows(self._layers)},
        )


def _are_first(cache_rows: Tensor | None) -> bool:
    """Whether a view will do. Reads the device only on a CPU, where it costs nothing."""
    if cache_rows is None or cache_rows.device.type != "cpu":
        return cache_rows is None
    return torch.equal(cache_rows, torch.arange(len(cache_rows)))


def _windows(layers: Sequence[TorchLayer]) -> set[int | None]:
    return {layer.weights.window for layer in layers}


def _ring_call(
    config: TransformerConfig, layers: Sequence[TorchLayer], at: RowPositions, size: int
) -> TorchCall:
    """Positions are modulo ``size``. Angles are float32, since those of bfloat16 are coarse."""
    if at.cache_rows is None:
        raise ValueError("rows of a ring must name their slots")
    positions, ring = at.positions, torch.arange(size, device=at.positions.device)
    last = positions[:, -1:]
    cached = last - (last - ring) % size  # [B, R]: the latest position that an entry holds
    age = positions[:, :, None] - cached[:, None, :]  # [B, N, R]
    visible = (cached[:, None, :] >= 0) & (age >= 0)
    exponents = torch.arange(0, config.head_size, 2, device=ring.device).float() / config.head_size
    angles = positions[..., None].float() / config.rope_theta**exponents  # [B, N, D / 2]
    return TorchCall(
        index=(at.cache_rows[:, None], slice(None), positions % size),
        limit=size,
        cache_rows=at.cache_rows,
        rotary=RotaryEmbedding.of_angles(torch.cat((angles, angles), dim=-1).unsqueeze(2)),
        masks={
            window: (visible if window is None else visible & (age < window)).unsqueeze(1)
            for window in _windows(layers)
        },
    )
