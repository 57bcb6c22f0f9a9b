"""The transformer of ``layers.py`` on a GPU: eight launches a layer, all of which a graph can hold.

In: rows, where they are, a view of the cache. Out: rows; the cache, written in place; nothing is read back.
Does not know: what a row means, who speaks, when it runs.

B batch rows · N positions of one call · M = B · N rows · E hidden size.

Rows of one prompt, of several, and steps of other streams can be rows of one call: all of a layer's keys
and values are written before any row looks at them. What a row comes to depends on no other row of the call,
nor on how many there are. The residual stream is float32 from the first row to the last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.layers import KeyValueCache, Layer, Passage, Rotation, Span, Transformer
from makima_tts.model.triton.attention import Attention, Example, fastest_attention, lawful
from makima_tts.model.triton.products import gated_product, parts_of_sum, product, product_parts
from makima_tts.model.triton.rows import HeadNorms, Places, add_and_norm, place_heads

# Of a cache, at most.
_MOST_ROWS = 4096
# What attentions are compared by: a busy server, half a minute into its utterances.
_EXAMPLE_STREAMS, _EXAMPLE_POSITIONS = 32, 384


@dataclass(frozen=True, slots=True)
class GpuTransformer:
    """A LayerStack. Its matrices are those of the Transformer that it was made of.

    ``first_rows``: 0, 1, … of a cache, so that they need not be counted in every call.
    """

    config: TransformerConfig
    layers: tuple[Layer, ...]
    norm: Tensor
    rotation: Rotation
    attention: Attention
    first_rows: Tensor

    @classmethod
    def of(cls, transformer: Transformer, attention: Attention) -> "GpuTransformer":
        norm, first_rows = transformer.norm, torch.arange(_MOST_ROWS, device=transformer.norm.device)
        return cls(transformer.config, transformer.layers, norm, transformer.rotation, attention, first_rows)

    @classmethod
    def load(
        cls,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
    ) -> "GpuTransformer":
        """``positions``: how many there may be. Takes the attention that is fastest here."""
        transformer = Transformer.load(config, weights, window_of, positions)
        candidates = lawful(transformer.norm.dtype)
        if len(candidates) == 1:
            return cls.of(transformer, candidates[0])
        kept = transformer.new_cache(_EXAMPLE_STREAMS, min(positions, _EXAMPLE_POSITIONS))
        window = transformer.layers[0].window
        example = Example.at_the_end(config.num_attention_heads, kept.keys[0], kept.values[0], window)
        return cls.of(transformer, fastest_attention(candidates, example))

    @property
    def looks_to_limit(self) -> bool:
        return self.attention.looks_to_limit

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        return KeyValueCache.allocate(self.config, rows, positions, self.norm.device, self.norm.dtype)

    def run(self, rows: Tensor, span: Span, cache: KeyValueCache) -> Tensor:
        batch, count, hidden = rows.shape
        kept = self.first_rows[:batch] if span.cache_rows is None else span.cache_rows
        cache_rows = kept[:, None].expand(batch, count).reshape(-1)
        # What is expanded from one number, or lies in a column, is a view that kernels could not read.
        places = Places(cache_rows.contiguous(), span.positions.reshape(-1).contiguous(), span.limit)
        return self._run(rows.reshape(-1, hidden), places, cache).view(batch, count, hidden)

    def read(self, passages: Sequence[Passage], cache: KeyValueCache) -> Tensor:
        """All of them in one pass over the weights."""
        at = [(each.cache_row, each.start + row) for each in passages for row in range(len(each.rows))]
        cache_rows, positions = torch.tensor(at).T.contiguous().to(self.norm.device)  # [M] each
        places = Places(cache_rows, positions, 1 + max(position for _row, position in at))
        made = self._run(torch.cat([each.rows for each in passages]), places, cache)
        ends = torch.tensor([len(each.rows) for each in passages]).cumsum(0) - 1
        return made[ends.to(made.device)]

    def _run(self, rows: Tensor, places: Places, cache: KeyValueCache) -> Tensor:
        """[M, E] → [M, E]."""
        eps = self.config.rms_norm_eps
        residual = torch.empty(rows.shape, device=rows.device, dtype=torch.float32)
        stream, parts = rows, None
        for index, layer in enumerate(self.layers):
            normed = add_and_norm(stream, parts, None, residual, layer.input_norm, eps)
            stream = residual
            parts = self._attention(layer, normed, places, cache.keys[index], cache.values[index])
            normed = add_and_norm(residual, parts, layer.out_bias, residual, layer.mlp_norm, eps)
            inner = gated_product(normed, layer.gate_up, self.config.hidden_act)  # [M, intermediate]
            parts = _in_parts(inner, layer.down)
        return add_and_norm(stream, parts, None, residual, self.norm, eps)

    def _attention(self, layer: Layer, rows: Tensor, places: Places, keys: Tensor, values: Tensor) -> Tensor:
        """[M, E] → parts of the sum, [S, M, E]. ``keys`` and ``values``: those of this layer."""
        config = self.config
        norms = HeadNorms(
            config.num_attention_heads,
            config.num_key_value_heads,
            layer.query_norm,
            layer.key_norm,
            config.rms_norm_eps,
        )
        fused = product(rows, layer.qkv, layer.qkv_bias, rows.dtype)  # [M, (H + 2 · K) · D]
        queries = place_heads(fused, norms, self.rotation, places, keys, values)  # [M, H, D]
        found = self.attention(queries, keys, values, places, layer.window)
        return _in_parts(found.flatten(1), layer.out)


def _in_parts(rows: Tensor, matrix: Tensor) -> Tensor:
    return product_parts(rows, matrix, parts_of_sum(*matrix.shape))
