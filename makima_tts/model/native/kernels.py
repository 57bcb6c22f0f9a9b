"""The functions of the C library, and matrices that it quantizes and multiplies by.

In: float32 tensors on a CPU. Out: quantized matrices, products. Does not know: which part of a model a matrix
is of.

O outputs · I inputs of a matrix · M rows.
"""

import ctypes
from ctypes import Structure, byref, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from makima_tts.model.native.compiler import library

# As in matrices.h.
GROUP = 64
BLOCK = 16
SIDE_BY_SIDE = 4


class MatrixRecord(Structure):
    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("size", c_int64),
        ("bits", c_int64),
    )


@cache
def functions() -> ctypes.CDLL:
    """Raises TtsUnavailable where they can neither be found nor compiled."""
    return declared(library())


def declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """The library, with the argument types of its functions."""
    loaded.pack_matrix.restype = loaded.pack_convolution.restype = loaded.gelu.restype = None
    loaded.pack_matrix.argtypes = (c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64)
    loaded.multiply_rows.argtypes = (c_void_p, c_void_p, c_int64, c_void_p, c_int64)
    loaded.run_stack.argtypes = (*(c_void_p,) * 6, c_int64, c_int64)
    loaded.pack_convolution.argtypes = (c_void_p, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p)
    loaded.convolve_depthwise.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)
    loaded.gelu.argtypes = (c_void_p, c_int64)
    loaded.convolve_features.argtypes = (
        *(c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64),
    )
    return loaded


def require_memory(failed: int) -> None:
    """Raises MemoryError when a function says that it had too little."""
    if failed:
        raise MemoryError("There is not enough memory to compute with.")


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@dataclass(frozen=True, slots=True)
class QuantizedLinear:
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
    def pack(cls, matrix: Tensor, bits: int, bias: Tensor | None = None) -> "QuantizedLinear":
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

    def record(self) -> MatrixRecord:
        """Points into this matrix's tensors: keep it."""
        return MatrixRecord(
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
        require_memory(failed)
        return product.view(*rows.shape[:-1], self.outputs)
