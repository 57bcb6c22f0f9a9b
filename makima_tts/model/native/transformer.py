"""The transformer's layers in C, with quantized weights: all layers in one call, on a CPU.

In: rows, their positions, the cache. Out: rows; the cache, written in place. Does not know: what a row means,
whose slot it is, how a product is computed.

B batch rows · N positions of one call · M = B · N rows · E hidden size · D head size. What a row comes to
depends neither on the other rows of the call nor on their number (matrices.h).
"""

from collections.abc import Iterable
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.native.kernels import MatrixRecord, QuantizedLinear, functions, require_memory
from makima_tts.model.transformer import KeyValueCache, LayerWeights, RotaryEmbedding, RowPositions


class _LayerRecord(Structure):
    _fields_ = (
        ("qkv", MatrixRecord),
        ("out", MatrixRecord),
        ("gate_up", MatrixRecord),
        ("down", MatrixRecord),
        ("input_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("window", c_int64),
    )


class _StackRecord(Structure):
    _fields_ = (
        ("layers", POINTER(_LayerRecord)),
        ("norm", c_void_p),
        ("layer_count", c_int64),
        ("hidden", c_int64),
        ("heads", c_int64),
        ("key_heads", c_int64),
        ("head_size", c_int64),
        ("gelu", c_int64),
        ("eps", c_double),
    )


class _RotaryRecord(Structure):
    _fields_ = (("cosines", c_void_p), ("sines", c_void_p), ("of", c_void_p))


class _CacheRecord(Structure):
    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        ("layer_stride", c_int64),
        ("row_stride", c_int64),
        ("head_stride", c_int64),
        ("position_stride", c_int64),
        ("positions", c_int64),
    )


class NativeStack:
    """A LayerStack of weights of ``bits`` bits. Raises TtsUnavailable where the kernels cannot be had.

    ``rotary`` None: it is computed for each call, since a ring has no last position. Positions beyond those
    of the cache wrap around.
    """

    looks_to_limit = False
    is_ragged = True

    def __init__(
        self,
        config: TransformerConfig,
        layers: Iterable[LayerWeights],
        norm: Tensor,
        rotary: RotaryEmbedding | None,
        *,
        bits: int,
    ) -> None:
        self._config, self._rotary = config, rotary
        self._tensors: list[object] = [norm]  # the records point into them
        records = [self._packed(layer, bits) for layer in layers]
        self._record = _StackRecord(
            (_LayerRecord * len(records))(*records),
            norm.data_ptr(),
            len(records),
            len(norm),
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_size,
            config.hidden_act == "gelu",
            config.rms_norm_eps,
        )

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        batch, count, hidden = rows.shape
        slots = torch.arange(batch) if at.cache_rows is None else at.cache_rows
        cache_rows = slots.repeat_interleave(count)  # [M]
        positions = at.positions.reshape(-1).contiguous()
        rotary, angles = self._rotary, positions
        if rotary is None:
            rotary = RotaryEmbedding.of(positions, self._config.rope_theta, self._config.head_size)
            angles = torch.arange(len(positions))
        out = rows.reshape(-1, hidden).to(torch.float32, copy=True).contiguous()
        failed = functions().run_stack(
            byref(self._record),
            byref(_cache_record(cache)),
            byref(_RotaryRecord(rotary.cos.data_ptr(), rotary.sin.data_ptr(), angles.data_ptr())),
            out.data_ptr(),
            cache_rows.data_ptr(),
            positions.data_ptr(),
            len(out),
            torch.get_num_threads(),
        )
        require_memory(failed)
        return out.view_as(rows)

    def _packed(self, layer: LayerWeights, bits: int) -> _LayerRecord:
        matrices = (
            QuantizedLinear.pack(layer.qkv, bits, layer.qkv_bias),
            QuantizedLinear.pack(layer.out, bits, layer.out_bias),
            QuantizedLinear.pack(layer.gate_up, bits),
            QuantizedLinear.pack(layer.down, bits),
        )
        norms = (layer.input_norm, layer.query_norm, layer.key_norm, layer.mlp_norm)
        self._tensors += [matrices, norms]
        return _LayerRecord(
            *(matrix.record() for matrix in matrices),
            *(None if norm is None else norm.data_ptr() for norm in norms),
            layer.window or 0,
        )


def _cache_record(cache: KeyValueCache) -> _CacheRecord:
    keys, values = cache.keys, cache.values
    layer, row, head, position, one = keys.stride()
    if values.stride() != keys.stride() or one != 1 or keys.dtype != torch.float32:
        raise ValueError("keys and values must be float32, with equal strides")
    return _CacheRecord(keys.data_ptr(), values.data_ptr(), layer, row, head, position, keys.shape[3])
