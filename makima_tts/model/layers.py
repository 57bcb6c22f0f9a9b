"""The transformer that talker and code predictor are made of, over a static key-value cache.

In: rows, their positions, a view of the cache. Out: rows; the cache, written in place. Does not know: what a
row means, who speaks, which rows of a batch matter.

B batch rows · N positions of one call · L positions that may be looked at · E hidden size · H query heads
· K key heads · G = H / K · D head size · R positions that a cache row can hold.

What one batch row comes to depends on no other row, on CPUs to the last bit (``rows_by_matrix``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import Activation, TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu}


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """``keys`` and ``values``: [layers, B, K, R, D], allocated once; positions are absolute, from 0."""

    keys: Tensor
    values: Tensor

    @classmethod
    def allocate(
        cls, config: TransformerConfig, rows: int, positions: int, device: torch.device, dtype: torch.dtype
    ) -> "KeyValueCache":
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, positions, config.head_size)
        return cls(_zeros(shape, device, dtype), _zeros(shape, device, dtype))

    @property
    def positions(self) -> int:
        return self.keys.shape[3]

    def rows(self, start: int, count: int) -> "KeyValueCache":
        """A view of ``count`` rows: what is written to it is written to this cache."""
        return KeyValueCache(self.keys.narrow(1, start, count), self.values.narrow(1, start, count))


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """On a CPU numpy's, which take no memory before they are written to: most positions never are."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    words = np.zeros((*shape, dtype.itemsize), np.uint8)
    return torch.from_numpy(words).view(dtype).squeeze(-1)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding. ``cos`` and ``sin``: float32 [positions, D]."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, positions: Tensor, theta: float, head_size: int) -> "Rotation":
        """The rotate-half form of RoFormer (arXiv:2104.09864): channel d turns with channel d + D / 2."""
        exponents = torch.arange(0, head_size, 2, device=positions.device).float() / head_size
        angles = torch.outer(positions.float(), 1.0 / theta**exponents)  # [positions, D / 2]
        both = torch.cat((angles, angles), dim=-1)  # [positions, D]
        return cls(both.cos(), both.sin())

    def at(self, positions: Tensor, dtype: torch.dtype) -> "Rotation":
        """int64 [B, N] → [B, 1, N, D]."""
        return Rotation(
            self.cos[positions].to(dtype).unsqueeze(1), self.sin[positions].to(dtype).unsqueeze(1)
        )

    def turn(self, heads: Tensor) -> Tensor:
        """[B, heads, N, D] → the same, turned."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cos + torch.cat((-second, first), dim=-1) * self.sin


@dataclass(frozen=True, slots=True)
class Passage:
    """``rows`` [N, E] that follow one another from position ``start`` on, in a row of the cache."""

    rows: Tensor
    cache_row: int
    start: int


@dataclass(frozen=True, slots=True)
class Span:
    """Where the rows of one call are. ``positions``: int64 [B, N]. ``limit``: L, beyond all of them.

    ``cache_rows``: int64 [B], whose rows of the cache they are; None: the first B.
    """

    positions: Tensor
    limit: int
    cache_rows: Tensor | None = None

    def mask(self, window: int | None) -> Tensor:
        """True where a position may be looked at: bool [B, 1, N, L]."""
        looked_at = torch.arange(self.limit, device=self.positions.device)
        here = self.positions[:, None, :, None]  # [B, 1, N, 1]
        seen: Tensor = looked_at.le(here)
        if window is not None:
            seen = seen & looked_at.gt(here - window)
        return seen


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


def rows_by_matrix(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """[B, …, inputs] by [outputs, inputs] → [B, …, outputs], each batch row as if it were alone.

    In fp32 on a CPU one row at a time: matrix libraries sum in another order for another number of rows, and
    the last bit can decide a code. Reading the weights is what takes the time there, and one row alone is
    read for as fast as memory allows.
    """
    if len(rows) == 1 or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return F.linear(rows, matrix, bias)
    return torch.cat([F.linear(row, matrix, bias) for row in torch.split(rows, 1)])


class Product(Protocol):
    """Multiplies rows [..., inputs] by a matrix → [..., outputs]; no row by what others are."""

    def __call__(self, rows: Tensor, /) -> Tensor: ...


class LayerStack(Protocol):
    """Layers and the norm after them, however their weights are kept."""

    @property
    def config(self) -> TransformerConfig: ...

    @property
    def looks_to_limit(self) -> bool:
        """Every row looks at all positions below a span's limit, so that a closer one saves time."""

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        """All zeros."""

    def run(self, rows: Tensor, span: Span, cache: KeyValueCache) -> Tensor:
        """[B, N, E] at ``span`` → [B, N, E]. Writes keys and values of these positions to ``cache``."""

    def read(self, passages: Sequence[Passage], cache: KeyValueCache) -> Tensor:
        """Each one's last row, [passages, E]; the cache holds what comes before, or an earlier one does."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """``weight``: [outputs, inputs], as it came."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        return rows_by_matrix(rows, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. ``qkv`` and ``gate_up`` are matrices that the checkpoint keeps apart."""

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    query_norm: Tensor
    key_norm: Tensor
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor
    window: int | None

    @classmethod
    def load(cls, config: TransformerConfig, weights: Weights, window: int | None) -> "Layer":
        hidden, head = config.hidden_size, config.head_size
        sizes = {
            "q": config.num_attention_heads * head,
            "k": config.num_key_value_heads * head,
            "v": config.num_key_value_heads * head,
        }
        attention, mlp = weights.within("self_attn"), weights.within("mlp")
        gate_up = [
            mlp.take(f"{part}_proj.weight", config.intermediate_size, hidden) for part in ("gate", "up")
        ]
        biased = config.attention_bias
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            qkv=torch.cat(
                [attention.take(f"{part}_proj.weight", size, hidden) for part, size in sizes.items()]
            ),
            qkv_bias=torch.cat([attention.take(f"{part}_proj.bias", size) for part, size in sizes.items()])
            if biased
            else None,
            query_norm=attention.take("q_norm.weight", head),
            key_norm=attention.take("k_norm.weight", head),
            out=attention.take("o_proj.weight", hidden, sizes["q"]),
            out_bias=attention.take("o_proj.bias", hidden) if biased else None,
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=torch.cat(gate_up),
            down=mlp.take("down_proj.weight", hidden, config.intermediate_size),
            window=window,
        )


@dataclass(frozen=True, slots=True)
class Transformer:
    """Layers, and the norm after them."""

    config: TransformerConfig
    layers: tuple[Layer, ...]
    norm: Tensor
    rotation: Rotation

    @classmethod
    def load(
        cls,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
    ) -> "Transformer":
        """``positions``: how many there may be, for which rotations are computed once."""
        layers = (
            Layer.load(config, weights.within(f"layers.{index}"), window_of(index))
            for index in range(config.num_hidden_layers)
        )
        table = torch.arange(positions, device=weights.device)  # turned once, for all there may be
        rotation = Rotation.of(table, config.rope_theta, config.head_size)
        return cls(config, tuple(layers), weights.take("norm.weight", config.hidden_size), rotation)

    @property
    def looks_to_limit(self) -> bool:
        return True

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        return KeyValueCache.allocate(self.config, rows, positions, self.norm.device, self.norm.dtype)

    def run(self, rows: Tensor, span: Span, cache: KeyValueCache) -> Tensor:
        place = self._place(rows, span)
        for index, layer in enumerate(self.layers):
            rows = rows + self._attention(layer, rows, place, cache.keys[index], cache.values[index])
            rows = rows + self._mlp(layer, rows)
        return _norm(rows, self.norm, self.config.rms_norm_eps)

    def read(self, passages: Sequence[Passage], cache: KeyValueCache) -> Tensor:
        return torch.cat([self._read(each, cache) for each in passages])

    def _read(self, passage: Passage, cache: KeyValueCache) -> Tensor:
        end = passage.start + len(passage.rows)
        positions = torch.arange(passage.start, end, device=passage.rows.device).unsqueeze(0)  # [1, N]
        kept = cache.rows(passage.cache_row, 1)
        return self.run(passage.rows.unsqueeze(0), Span(positions, end), kept)[:, -1]

    def _place(self, rows: Tensor, span: Span) -> "_Place":
        first = torch.arange(rows.shape[0], device=rows.device)
        batch = (first if span.cache_rows is None else span.cache_rows).unsqueeze(1)  # [B, 1]
        return _Place(
            at=(batch, slice(None), span.positions),
            limit=span.limit,
            cache_rows=None if _are_first(span.cache_rows) else span.cache_rows,
            rotation=self.rotation.at(span.positions, rows.dtype),
            masks={window: span.mask(window) for window in {layer.window for layer in self.layers}},
        )

    def _attention(self, layer: Layer, rows: Tensor, place: "_Place", keys: Tensor, values: Tensor) -> Tensor:
        """``keys`` and ``values``: [B, K, R, D] of this layer."""
        config, eps = self.config, self.config.rms_norm_eps
        batch, count, _ = rows.shape
        fused = rows_by_matrix(_norm(rows, layer.input_norm, eps), layer.qkv, layer.qkv_bias)
        heads = fused.view(batch, count, -1, config.head_size).transpose(1, 2)  # [B, H + 2 * K, N, D]
        shares = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        query, key, value = torch.split(heads, shares, dim=1)
        query = place.rotation.turn(_norm(query, layer.query_norm, eps))  # [B, H, N, D]
        key = place.rotation.turn(_norm(key, layer.key_norm, eps))  # [B, K, N, D]
        keys[place.at] = key.transpose(1, 2)
        values[place.at] = value.transpose(1, 2)
        attended = attend(
            query, place.seen(keys, batch), place.seen(values, batch), place.masks[layer.window]
        )
        joined = attended.transpose(1, 2).reshape(batch, count, -1)  # [B, N, H * D]
        return rows_by_matrix(joined, layer.out, layer.out_bias)

    def _mlp(self, layer: Layer, rows: Tensor) -> Tensor:
        fused = rows_by_matrix(_norm(rows, layer.mlp_norm, self.config.rms_norm_eps), layer.gate_up)
        gate, up = fused.chunk(2, dim=-1)  # [B, N, intermediate] each
        return rows_by_matrix(ACTIVATIONS[self.config.hidden_act](gate) * up, layer.down)


def _are_first(cache_rows: Tensor | None) -> bool:
    """Whether a view will do. Only asked on a CPU, where an answer costs nothing."""
    if cache_rows is None or cache_rows.device.type != "cpu":
        return cache_rows is None
    return torch.equal(cache_rows, torch.arange(len(cache_rows)))


@dataclass(frozen=True, slots=True)
class _Place:
    """What the layers of one call share: where its rows go in the cache, how they turn, what they see."""

    at: tuple[Tensor, slice, Tensor]
    limit: int
    cache_rows: Tensor | None
    rotation: Rotation
    masks: dict[int | None, Tensor]

    def seen(self, kept: Tensor, batch: int) -> Tensor:
        """[rows, K, R, D] → [B, K, L, D]: a view of the first rows, or a copy of others."""
        within = kept[:, :, : self.limit]
        return within[:batch] if self.cache_rows is None else within.index_select(0, self.cache_rows)


def _norm(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv:1910.07467) over the last dimension, in float32 whatever the rows are."""
    wide = rows.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * scaled.to(rows.dtype)
