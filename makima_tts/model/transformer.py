"""The transformer of talker, code predictor and codec, over a static key-value cache.

In: rows, their positions, the cache. Out: rows; the cache, written in place. Does not know: what a row means,
whose slot it is, how a leaf computes.

B batch rows · N positions of one call · M rows of a call in all · E hidden size · H query heads · K key heads
· D head size · R positions that a cache row holds.

The loop over layers is written once, in ``run_layers``. Its leaves are those of torch (ops/torch.py) or of
Triton; C computes all layers in one call, since a call from Python for each leaf would cost its speed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import Activation, CodecDecoderConfig, TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu}

# The types of a backend: the residual stream, features beside it, the positions of a call.
X = TypeVar("X")
H = TypeVar("H")
P_contra = TypeVar("P_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class KeyValueCache:
    """``keys`` and ``values``: [layers, B, K, R, D], allocated once; positions are absolute, from 0."""

    keys: Tensor
    values: Tensor

    @property
    def positions(self) -> int:
        return self.keys.shape[3]

    def rows(self, start: int, count: int) -> "KeyValueCache":
        """A view of ``count`` rows: writing to it writes to this cache."""
        return KeyValueCache(self.keys.narrow(1, start, count), self.values.narrow(1, start, count))


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """On a CPU numpy's, which take no memory before they are written to: most positions never are."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    words = np.zeros((*shape, dtype.itemsize), np.uint8)
    return torch.from_numpy(words).view(dtype).squeeze(-1)


@dataclass(frozen=True, slots=True)
class RotaryEmbedding:
    """Rotary position embedding. ``cos`` and ``sin``: float32 [positions, D], or shaped like heads."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, positions: Tensor, theta: float, head_size: int) -> "RotaryEmbedding":
        """The rotate-half form of RoFormer (arXiv:2104.09864): channel d is paired with channel d + D / 2."""
        exponents = torch.arange(0, head_size, 2, device=positions.device).float() / head_size
        angles = torch.outer(positions.float(), 1.0 / theta**exponents)  # [positions, D / 2]
        return cls.of_angles(torch.cat((angles, angles), dim=-1))  # [positions, D]

    @classmethod
    def of_angles(cls, angles: Tensor) -> "RotaryEmbedding":
        return cls(angles.cos(), angles.sin())

    def at(self, positions: Tensor, dtype: torch.dtype) -> "RotaryEmbedding":
        """int64 [B, N] → [B, N, 1, D]."""
        return RotaryEmbedding(
            self.cos[positions].to(dtype).unsqueeze(2), self.sin[positions].to(dtype).unsqueeze(2)
        )

    def rotate(self, heads: Tensor) -> Tensor:
        """[B, N, heads, D] → the same, rotated; computed in the wider of both precisions."""
        first, second = heads.chunk(2, dim=-1)
        return (heads * self.cos + torch.cat((-second, first), dim=-1) * self.sin).to(heads.dtype)


@dataclass(frozen=True, slots=True)
class RowPositions:
    """Where the rows of one call are. ``positions``: int64 [B, N]; all lie below ``limit``.

    ``cache_rows``: int64 [B], whose rows of the cache they are; None: the first B.
    """

    positions: Tensor
    limit: int
    cache_rows: Tensor | None = None

    def mask(self, window: int | None) -> Tensor:
        """True where a row attends, bool [B, 1, N, limit]; ``window`` None: everywhere up to its position."""
        keys = torch.arange(self.limit, device=self.positions.device)
        queries = self.positions[:, None, :, None]  # [B, 1, N, 1]
        mask: Tensor = keys.le(queries)
        if window is not None:
            mask = mask & keys.gt(queries - window)
        return mask


@dataclass(frozen=True, slots=True)
class PromptRows:
    """``rows`` [N, E] of consecutive positions from ``start`` on, in a row of the cache."""

    rows: Tensor
    cache_row: int
    start: int


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer as it was loaded. ``qkv`` and ``gate_up`` are matrices that the checkpoint keeps apart."""

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor
    window: int | None

    @classmethod
    def load(cls, config: TransformerConfig, weights: Weights, window: int | None) -> "LayerWeights":
        hidden, head = config.hidden_size, config.head_size
        attention, biased = weights.within("self_attn"), config.attention_bias
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            qkv=joined_qkv(config, attention, "weight", hidden),
            qkv_bias=joined_qkv(config, attention, "bias") if biased else None,
            query_norm=attention.take("q_norm.weight", head),
            key_norm=attention.take("k_norm.weight", head),
            out=attention.take("o_proj.weight", hidden, config.num_attention_heads * head),
            out_bias=attention.take("o_proj.bias", hidden) if biased else None,
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=_gate_up(config, weights),
            down=weights.take("mlp.down_proj.weight", hidden, config.intermediate_size),
            window=window,
        )

    @classmethod
    def load_codec(cls, config: CodecDecoderConfig, weights: Weights) -> "LayerWeights":
        """Of the codec: heads have no norms, and the layer scales become part of ``out`` and ``down``."""
        hidden, attention = config.hidden_size, weights.within("self_attn")
        queries = config.num_attention_heads * config.head_size
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            qkv=joined_qkv(config, attention, "weight", hidden),
            qkv_bias=None,
            query_norm=None,
            key_norm=None,
            out=_scaled(weights, "self_attn_layer_scale", "self_attn.o_proj", hidden, queries),
            out_bias=None,
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=_gate_up(config, weights),
            down=_scaled(weights, "mlp_layer_scale", "mlp.down_proj", hidden, config.intermediate_size),
            window=config.sliding_window,
        )


def joined_qkv(config: TransformerConfig, attention: Weights, name: str, *inputs: int) -> Tensor:
    """The tensors ``name`` of the query, key and value projections, one below the other."""
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    sizes = zip("qkv", (heads, key_heads, key_heads), strict=True)
    return torch.cat(
        [attention.take(f"{of}_proj.{name}", count * config.head_size, *inputs) for of, count in sizes]
    )


def _gate_up(config: TransformerConfig, weights: Weights) -> Tensor:
    size = config.intermediate_size, config.hidden_size
    return torch.cat([weights.take(f"mlp.{of}_proj.weight", *size) for of in ("gate", "up")])


def _scaled(weights: Weights, scale: str, matrix: str, outputs: int, inputs: int) -> Tensor:
    """The matrix with the layer scale of its outputs, multiplied before they are rounded."""
    exact = weights.as_dtype(torch.float32)
    scaled = exact.take(f"{matrix}.weight", outputs, inputs) * exact.take(f"{scale}.scale", outputs)[:, None]
    return scaled.to(weights.dtype)


class Layer(Protocol[X, H, P_contra]):
    """The leaves of one layer; ``keys`` and ``values`` are this layer's of a cache, [B, K, R, D]."""

    def qkv(self, x: X, /) -> H:
        """Norm and product: queries, keys and values beside each other, (H + 2 * K) * D channels."""

    def attend(self, heads: H, at: P_contra, keys: Tensor, values: Tensor, /) -> H:
        """Norms of heads, rotary embedding, writes to the cache, attention: H * D channels."""

    def out(self, attended: H, x: X, /) -> X:
        """x and the product."""

    def gate_up(self, x: X, /) -> H:
        """Norm, both products, and the activation of the gate times up."""

    def down(self, gated: H, x: X, /) -> X:
        """x and the product."""


def run_layers(layers: Sequence[Layer[X, H, P_contra]], x: X, at: P_contra, cache: KeyValueCache) -> X:
    for index, layer in enumerate(layers):
        x = layer.out(layer.attend(layer.qkv(x), at, cache.keys[index], cache.values[index]), x)
        x = layer.down(layer.gate_up(x), x)
    return x


class LayerStack(Protocol):
    """All layers and the norm after them."""

    @property
    def looks_to_limit(self) -> bool:
        """Every row looks at all positions below the limit, so that a closer one saves time."""

    @property
    def is_ragged(self) -> bool:
        """A row's bits do not depend on N: rows of several prompts can be one call, [M, 1, E]."""

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache, /) -> Tensor:
        """[B, N, E] → [B, N, E]. Writes keys and values of these positions to ``cache``."""


# [M, H, D] over keys and values [rows, K, R, D] → [M, H, D]: each row up to its own position, and as far back
# as the window. The positions are [M, 1], with cache_rows.
Attention = Callable[[Tensor, Tensor, Tensor, RowPositions, int | None], Tensor]

# The layers' weights are packed one by one as they are read, so that both forms of all are never in memory.
MakeStack = Callable[[TransformerConfig, Iterable[LayerWeights], Tensor, RotaryEmbedding], LayerStack]


@dataclass(frozen=True, slots=True)
class Transformer:
    """Layers with a cache. ``device`` and ``dtype``: of the cache."""

    config: TransformerConfig
    stack: LayerStack
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
        make_stack: MakeStack,
    ) -> "Transformer":
        """``positions``: how many there may be, for which the rotary embedding is computed once."""
        layers = (
            LayerWeights.load(config, weights.within(f"layers.{index}"), window_of(index))
            for index in range(config.num_hidden_layers)
        )
        table = torch.arange(positions, device=weights.device)
        rotary = RotaryEmbedding.of(table, config.rope_theta, config.head_size)
        norm = weights.take("norm.weight", config.hidden_size)
        return cls(config, make_stack(config, layers, norm, rotary), weights.device, weights.dtype)

    @property
    def looks_to_limit(self) -> bool:
        return self.stack.looks_to_limit

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        """All zeros."""
        config = self.config
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, positions, config.head_size)
        return KeyValueCache(*(_zeros(shape, self.device, self.dtype) for _ in range(2)))

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        """[B, N, E] → [B, N, E]. Writes keys and values of these positions to ``cache``."""
        return self.stack.run(rows, at, cache)

    def prefill(self, prompts: Sequence[PromptRows], cache: KeyValueCache) -> Tensor:
        """The last row of each, [prompts, E]. What precedes it is in the cache, or in an earlier one.

        In one pass over the weights where the leaf is ragged, else one after another.
        """
        if not self.stack.is_ragged:
            return torch.cat([self._prefill(each, cache) for each in prompts])
        at = [(each.cache_row, each.start + row) for each in prompts for row in range(len(each.rows))]
        cache_rows, positions = torch.tensor(at).T.contiguous().to(self.device)  # [M] each
        limit = 1 + max(position for _row, position in at)
        rows = torch.cat([each.rows for each in prompts]).unsqueeze(1)  # [M, 1, E]
        hidden = self.run(rows, RowPositions(positions.unsqueeze(1), limit, cache_rows), cache)[:, 0]
        ends = torch.tensor([len(each.rows) for each in prompts]).cumsum(0) - 1
        return hidden[ends.to(hidden.device)]

    def _prefill(self, prompt: PromptRows, cache: KeyValueCache) -> Tensor:
        end = prompt.start + len(prompt.rows)
        positions = torch.arange(prompt.start, end, device=self.device).unsqueeze(0)  # [1, N]
        row = cache.rows(prompt.cache_row, 1)
        return self.run(prompt.rows.unsqueeze(0), RowPositions(positions, end), row)[:, -1]
