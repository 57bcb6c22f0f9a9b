"""The transformer with weights of eight or four bits, in place of the one in ``layers.py``.

In: rows, their positions, a view of the cache. Out: rows; the cache, written in place. Does not know: what a
row means, who speaks, how a product is computed.

B batch rows · N positions of one call · E hidden size. What a row comes to depends on no other row of the
batch, nor on how many there are (native/matrices.h).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.layers import KeyValueCache, Layer, Passage, Rotation, Span
from makima_tts.model.native.kernels import Places, QuantizedLayer, QuantizedMatrix, QuantizedStack


@dataclass(frozen=True, slots=True)
class QuantizedTransformer:
    """A LayerStack, on a CPU. Raises TtsUnavailable when loaded where the kernels cannot be had."""

    config: TransformerConfig
    stack: QuantizedStack
    rotation: Rotation

    @classmethod
    def load(
        cls,
        config: TransformerConfig,
        weights: Weights,
        window_of: Callable[[int], int | None],
        positions: int,
        bits: int,
    ) -> "QuantizedTransformer":
        """``positions``: how many there may be. A layer is packed as soon as it is read."""
        layers = [
            _packed(Layer.load(config, weights.within(f"layers.{index}"), window_of(index)), bits)
            for index in range(config.num_hidden_layers)
        ]
        rotation = Rotation.of(torch.arange(positions), config.rope_theta, config.head_size)
        stack = QuantizedStack(
            layers,
            weights.take("norm.weight", config.hidden_size),
            heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_size=config.head_size,
            gelu=config.hidden_act == "gelu",
            eps=config.rms_norm_eps,
        )
        return cls(config, stack, rotation)

    @property
    def looks_to_limit(self) -> bool:
        return False

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        return KeyValueCache.allocate(self.config, rows, positions, torch.device("cpu"), torch.float32)

    def run(self, rows: Tensor, span: Span, cache: KeyValueCache) -> Tensor:
        """[B, N, E] at ``span`` → [B, N, E]. Writes keys and values of these positions to ``cache``."""
        batch, count, hidden = rows.shape
        kept = torch.arange(batch) if span.cache_rows is None else span.cache_rows
        flat, positions = rows.reshape(-1, hidden), span.positions.reshape(-1)
        made = self._run(flat, kept.repeat_interleave(count), positions, cache)
        return made.view(batch, count, hidden)

    def read(self, passages: Sequence[Passage], cache: KeyValueCache) -> Tensor:
        """All of them in one pass over the weights."""
        sizes = torch.tensor([len(each.rows) for each in passages])
        cache_rows = torch.tensor([each.cache_row for each in passages]).repeat_interleave(sizes)
        positions = torch.cat([torch.arange(each.start, each.start + len(each.rows)) for each in passages])
        made = self._run(torch.cat([each.rows for each in passages]), cache_rows, positions, cache)
        return made[sizes.cumsum(0) - 1]

    def _run(self, rows: Tensor, cache_rows: Tensor, positions: Tensor, cache: KeyValueCache) -> Tensor:
        """[M, E], each in a row of the cache and at a position of it, int64 [M] → [M, E]."""
        places = Places(cache_rows, positions, self.rotation.cos, self.rotation.sin, positions)
        return self.stack.run(rows, places, cache.keys, cache.values)


def _packed(layer: Layer, bits: int) -> QuantizedLayer:
    return QuantizedLayer(
        qkv=QuantizedMatrix.pack(layer.qkv, bits, layer.qkv_bias),
        out=QuantizedMatrix.pack(layer.out, bits, layer.out_bias),
        gate_up=QuantizedMatrix.pack(layer.gate_up, bits),
        down=QuantizedMatrix.pack(layer.down, bits),
        input_norm=layer.input_norm,
        query_norm=layer.query_norm,
        key_norm=layer.key_norm,
        mlp_norm=layer.mlp_norm,
        window=layer.window,
    )
