"""The leaves of torch: matrices, and the layers of a transformer, on any device.

In: rows, their positions, weights as they were loaded. Out: rows; the cache, written in place. Does not know:
what a row means, whose slot it is.

B batch rows · N positions of one call · E hidden size · H query heads · K key heads · D head size
· R positions that a cache row holds · L positions of them that are looked at.

What one batch row comes to depends on no other row, on CPUs to the last bit (``linear``).
"""

from collections.abc import Iterable
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


@dataclass(frozen=True, slots=True)
class TorchAttention:
    """An Attention that copies what it looks at."""

    @property
    def looks_to_limit(self) -> bool:
        return True

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, at: RowPositions, window: int | None, /
    ) -> Tensor:
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

    def qkv(self, x: Tensor) -> Tensor:
        normed = rms_norm(x, self.weights.input_norm, self.config.rms_norm_eps)
        return linear(normed, self.weights.qkv, self.weights.qkv_bias)

    def attend(self, heads: Tensor, at: TorchCall, keys: Tensor, values: Tensor) -> Tensor:
        config, batch = self.config, len(heads)
        shares = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        split = heads.view(*heads.shape[:2], -1, config.head_size)  # [B, N, H + 2 * K, D]
        query, key, value = torch.split(split, shares, dim=2)
        keys[at.index] = at.rotary.rotate(self._normed(key, self.weights.key_norm))
        values[at.index] = value
        attended = attend(
            at.rotary.rotate(self._normed(query, self.weights.query_norm)).transpose(1, 2),
            at.visible(keys, batch),
            at.visible(values, batch),
            at.masks[self.weights.window],
        )
        return attended.transpose(1, 2).flatten(2)  # [B, N, H * D]

    def out(self, attended: Tensor, x: Tensor) -> Tensor:
        return x + linear(attended, self.weights.out, self.weights.out_bias)

    def gate_up(self, x: Tensor) -> Tensor:
        normed = rms_norm(x, self.weights.mlp_norm, self.config.rms_norm_eps)
        gate, up = linear(normed, self.weights.gate_up).chunk(2, dim=-1)  # [B, N, intermediate] each
        return ACTIVATIONS[self.config.hidden_act](gate) * up

    def down(self, gated: Tensor, x: Tensor) -> Tensor:
        return x + linear(gated, self.weights.down)

    def _normed(self, heads: Tensor, norm: Tensor | None) -> Tensor:
        return heads if norm is None else rms_norm(heads, norm, self.config.rms_norm_eps)


class TorchStack:
    """A LayerStack."""

    looks_to_limit = True
    is_ragged = False

    def __init__(
        self,
        config: TransformerConfig,
        layers: Iterable[LayerWeights],
        norm: Tensor,
        rotary: RotaryEmbedding,
    ) -> None:
        self._layers = [TorchLayer(config, layer) for layer in layers]
        self._norm, self._eps, self._rotary = norm, config.rms_norm_eps, rotary

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        return rms_norm(run_layers(self._layers, rows, self._call(rows, at), cache), self._norm, self._eps)

    def _call(self, rows: Tensor, at: RowPositions) -> TorchCall:
        first = torch.arange(len(rows), device=rows.device)
        batch = (first if at.cache_rows is None else at.cache_rows).unsqueeze(1)  # [B, 1]
        return TorchCall(
            index=(batch, slice(None), at.positions),
            limit=at.limit,
            cache_rows=None if _are_first(at.cache_rows) else at.cache_rows,
            rotary=self._rotary.at(at.positions, rows.dtype),
            masks={window: at.mask(window) for window in {layer.weights.window for layer in self._layers}},
        )


def _are_first(cache_rows: Tensor | None) -> bool:
    """Whether a view will do. Reads the device only on a CPU, where it costs nothing."""
    if cache_rows is None or cache_rows.device.type != "cpu":
        return cache_rows is None
    return torch.equal(cache_rows, torch.arange(len(cache_rows)))
