"""The library's functions, for tensors.

In: float32 tensors on a CPU, matrices to be packed. Out: packed matrices, products, layers' results. Does
not know: which part of a model a matrix is of, who speaks.

O outputs · I inputs of a matrix · M rows · E hidden size · D head size.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from makima_tts.model.native.compiler import library

# As in matrices.h.
GROUP = 64
BLOCK = 16
SIDE_BY_SIDE = 4


class _MatrixRecord(Structure):
    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("size", c_int64),
        ("bits", c_int64),
    )


class _LayerRecord(Structure):
    _fields_ = (
        ("qkv", _MatrixRecord),
        ("out", _MatrixRecord),
        ("gate_up", _MatrixRecord),
        ("down", _MatrixRecord),
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


class _TurnsRecord(Structure):
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


@cache
def functions() -> ctypes.CDLL:
    """Raises TtsUnavailable where they cannot be had."""
    return declared(library())


def declared(made: ctypes.CDLL) -> ctypes.CDLL:
    """What its functions take."""
    made.pack_matrix.restype = made.pack_convolution.restype = made.gelu.restype = None
    made.pack_matrix.argtypes = (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64)
    made.multiply_rows.argtypes = (c_void_p, c_void_p, c_int64, c_void_p, c_int64)
    made.run_stack.argtypes = (*(c_void_p,) * 6, c_int64, c_int64)
    made.pack_convolution.argtypes = (c_void_p, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p)
    made.convolve_depthwise.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)
    made.gelu.argtypes = (c_void_p, c_int64)
    made.convolve_features.argtypes = (
        *(c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64),
    )
    return made


def demand_memory(failed: int) -> None:
    """Raises MemoryError when a function says that it had too little."""
    if failed:
        raise MemoryError("There is not enough memory to compute with.")


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """``values``: uint8, as matrices.h says; ``scales``: bfloat16 bits, uint16 [O, groups].

    Called with float32 [..., I] it returns [..., O]; what one row comes to depends on no other row.
    """

    bits: int
    outputs: int
    inputs: int
    values: Tensor
    scales: Tensor
    bias: Tensor | None

    @classmethod
    def pack(cls, matrix: Tensor, bits: int, bias: Tensor | None = None) -> "QuantizedMatrix":
        """float32 [O, I], rounded to 8 or 4 bits in groups of GROUP inputs."""
        outputs, inputs = matrix.shape
        padded = _up(inputs, GROUP)
        values = torch.zeros(_up(outputs, SIDE_BY_SIDE) * padded * bits // 8, dtype=torch.uint8)
        scales = torch.zeros(outputs, _up(padded // GROUP, BLOCK), dtype=torch.uint16)
        exact = matrix.float().contiguous()
        functions().pack_matrix(
            exact.data_ptr(),
            outputs,
            inputs,
            bits,
            values.data_ptr(),
            scales.data_ptr(),
            torch.get_num_threads(),
        )
        return cls(bits, outputs, inputs, values, scales, None if bias is None else bias.float().contiguous())

    def record(self) -> _MatrixRecord:
        """Points into this matrix's tensors: keep it."""
        return _MatrixRecord(
            self.values.data_ptr(),
            self.scales.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            self.outputs,
            _up(self.inputs, GROUP),
            self.inputs,
            self.bits,
        )

    def __call__(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, self.inputs).contiguous()  # [M, I]
        product = torch.empty(len(flat), self.outputs)  # [M, O]
        failed = functions().multiply_rows(
            byref(self.record()), flat.data_ptr(), len(flat), product.data_ptr(), torch.get_num_threads()
        )
        demand_memory(failed)
        return product.view(*rows.shape[:-1], self.outputs)


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """``window`` None: a row sees all before it. Norms: float32; those of heads may be missing."""

    qkv: QuantizedMatrix
    out: QuantizedMatrix
    gate_up: QuantizedMatrix
    down: QuantizedMatrix
    input_norm: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None
    mlp_norm: Tensor
    window: int | None

    def record(self) -> _LayerRecord:
        matrices = (self.qkv, self.out, self.gate_up, self.down)
        return _LayerRecord(
            *(matrix.record() for matrix in matrices),
            self.input_norm.data_ptr(),
            None if self.query_norm is None else self.query_norm.data_ptr(),
            None if self.key_norm is None else self.key_norm.data_ptr(),
            self.mlp_norm.data_ptr(),
            self.window or 0,
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of a call are, int64 [M]: in which row of the cache, at which position, how far turned.

    ``cosines``, ``sines``: float32 [angles, D]. Positions beyond those of the cache begin it anew.
    """

    cache_rows: Tensor
    positions: Tensor
    cosines: Tensor
    sines: Tensor
    angles: Tensor


class QuantizedStack:
    """Layers and the norm after them. ``head_size``: D."""

    def __init__(
        self,
        layers: Sequence[QuantizedLayer],
        norm: Tensor,
        *,
        heads: int,
        key_heads: int,
        head_size: int,
        gelu: bool,
        eps: float,
    ) -> None:
        self._kept = layers, norm  # the records point into them
        self._layers = (_LayerRecord * len(layers))(*(layer.record() for layer in layers))
        self._record = _StackRecord(
            self._layers, norm.data_ptr(), len(layers), len(norm), heads, key_heads, head_size, gelu, eps
        )

    def run(self, rows: Tensor, places: Places, keys: Tensor, values: Tensor) -> Tensor:
        """[M, E] → [M, E].

        ``keys`` and ``values``: [layers, rows, heads, positions, D]; written in place, all rows of this call
        before any is attended to.
        """
        made = rows.to(torch.float32, copy=True).contiguous()
        cache_rows, positions = places.cache_rows.contiguous(), places.positions.contiguous()
        cosines, sines, angles = (each.contiguous() for each in (places.cosines, places.sines, places.angles))
        turns = _TurnsRecord(cosines.data_ptr(), sines.data_ptr(), angles.data_ptr())
        failed = functions().run_stack(
            byref(self._record),
            byref(_cache_record(keys, values)),
            byref(turns),
            made.data_ptr(),
            cache_rows.data_ptr(),
            positions.data_ptr(),
            len(made),
            torch.get_num_threads(),
        )
        demand_memory(failed)
        return made


def _cache_record(keys: Tensor, values: Tensor) -> _CacheRecord:
    layer, row, head, position, one = keys.stride()
    if values.stride() != keys.stride() or one != 1 or keys.dtype != torch.float32:
        raise ValueError("keys and values must be float32, and lie alike")
    return _CacheRecord(keys.data_ptr(), values.data_ptr(), layer, row, head, position, keys.shape[3])
