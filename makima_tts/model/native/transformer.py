"""The transformer's layers in C, with weights of eight or four bits: all layers in one call, on a CPU.

In: rows, their positions, the cache. Out: rows; the cache, written in place. Does not know: what a row means,
whose slot it is, how a product is computed.

B batch rows · N positions of one call · E hidden size. What a row comes to depends on no other row of the
batch, nor on how many there are (matrices.h).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.native.kernels import Places, QuantizedLayer, QuantizedMatrix, QuantizedStack
from makima_tts.model.transformer import KeyValueCache, LayerWeights, RotaryEmbedding, RowPositions


class NativeStack:
    """A LayerStack. Raises TtsUnavailable where the kernels cannot be had."""

    looks_to_limit = False
    is_ragged = True

    def __init__(
        self,
        config: TransformerConfig,
        layers: Iterable[LayerWeights],
        norm: Tensor,
        rotary: RotaryEmbedding,
        *,
        bits: int,
    ) -> None:
        self._rotary = rotary
        self._stack = QuantizedStack(
            [_packed(layer, bits) for layer in layers],
            norm,
            heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            head_size=config.head_size,
            gelu=config.hidden_act == "gelu",
            eps=config.rms_norm_eps,
        )

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        batch, count, hidden = rows.shape
        cache_rows = torch.arange(batch) if at.cache_rows is None else at.cache_rows
        positions = at.positions.reshape(-1)
        places = Places(
            cache_rows.repeat_interleave(count), positions, self._rotary.cos, self._rotary.sin, positions
        )
        return self._stack.run(rows.reshape(-1, hidden), places, cache.keys, cache.values).view_as(rows)


def _packed(layer: LayerWeights, bits: int) -> QuantizedLayer:
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
