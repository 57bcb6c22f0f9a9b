"""The leaves in C, on a CPU: quantized matrices, the transformer's layers, the codec decoder's convolutions.

In: float32 tensors, leaves of torch. Out: the same leaves, faster. Does not know: which part of a model a
matrix is of, what a row means, slots.

O outputs · I inputs of a matrix · B batch rows · N positions of one call · M = B · N rows · E hidden size ·
D head size · T time · C channels · K taps. What a row comes to depends neither on the other rows of the call
nor on their number (matrices.h).

Language-model weights have 8 or 4 bits. The codec's have 16, of which thirteen are used, and so have its
features: the error lies 60 dB and more below the sound, where bfloat16's is at 36 and that of eight bits is
audible.
"""

import ctypes
from collections.abc import Iterable, Iterator
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.codec_ops import (
    LAYER_NORM_EPS,
    CausalConv,
    CodecCall,
    CodecOps,
    DepthwiseConv,
    Layer,
    Leaf,
    Linear,
    Snake,
    StateRegion,
    on_stack,
    samples_of,
)
from makima_tts.model.native.compiler import library
from makima_tts.model.transformer import KeyValueCache, LayerWeights, RotaryEmbedding, RowPositions

# As in matrices.h.
GROUP = 64
BLOCK = 16
SIDE_BY_SIDE = 4
# As in convolution.c.
_LANES = 32
# Of the codec's weights and features.
_CODEC_BITS = 16

# Fields of the C structures.
_Field = tuple[str, type[c_void_p] | type[c_int64]]


def _pointers(*names: str) -> Iterator[_Field]:
    return ((name, c_void_p) for name in names)


def _integers(*names: str) -> Iterator[_Field]:
    return ((name, c_int64) for name in names)


class MatrixRecord(Structure):
    _fields_ = (*_pointers("values", "scales", "bias"), *_integers("outputs", "inputs", "size", "bits"))


class _LayerRecord(Structure):
    _fields_ = (
        *((name, MatrixRecord) for name in ("qkv", "out", "gate_up", "down")),
        *_pointers("input_norm", "query_norm", "key_norm", "mlp_norm"),
        *_integers("window"),
    )


class _StackRecord(Structure):
    _fields_ = (
        ("layers", POINTER(_LayerRecord)),
        *_pointers("norm"),
        *_integers("layer_count", "hidden", "heads", "key_heads", "head_size", "gelu"),
        ("eps", c_double),
    )


class _RotaryRecord(Structure):
    _fields_ = tuple(_pointers("cosines", "sines", "of"))


class _CacheRecord(Structure):
    _fields_ = (
        *_pointers("keys", "values"),
        *_integers("layer_stride", "row_stride", "head_stride", "position_stride", "positions"),
    )


class _ConvolutionRecord(Structure):
    _fields_ = (
        *_pointers("weights", "scales", "bias", "frequency", "amplitude"),
        *_integers("outputs", "taps", "dilation", "channels", "width"),
    )


class _DepthwiseRecord(Structure):
    _fields_ = (
        *_pointers("weights", "bias", "norm", "norm_bias"),
        *_integers("taps", "channels"),
        ("eps", c_double),
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
        self._theta, self._head_size, self._rotary = config.rope_theta, config.head_size, rotary
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
            rotary = RotaryEmbedding.of(positions, self._theta, self._head_size)
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


@dataclass(frozen=True, slots=True)
class PackedConvolution:
    """``weight``: int16 [rate * O, K, width]; ``scales``, ``bias``: float32 [rate * O].

    ``region``: where the conv state holds the last (K - 1) * dilation inputs, as they are after the snake.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor
    dilation: int
    rate: int
    region: StateRegion
    snake: Snake | None

    @classmethod
    def pack(cls, conv: CausalConv) -> "PackedConvolution":
        outputs, taps = len(conv.weight), conv.kernel
        channels = conv.weight.shape[1] // taps
        width = _up(channels, _LANES)
        weight = torch.empty(outputs, taps, width, dtype=torch.int16)
        scales = torch.empty(outputs)
        exact = conv.weight.float().contiguous()
        functions().pack_convolution(
            exact.data_ptr(), outputs, taps, channels, width, weight.data_ptr(), scales.data_ptr()
        )
        bias = conv.bias.float().contiguous()
        return cls(weight, scales, bias, conv.dilation, conv.rate, conv.region, conv.snake)

    def __call__(self, x: Tensor, call: CodecCall, /, residual: Tensor | None = None) -> Tensor:
        """[B, T, C] → [B, T * rate, O], plus ``residual`` [B, T * rate, O]."""
        x = x.contiguous()
        batch, steps, _ = x.shape
        out = torch.empty(batch, steps * self.rate, len(self.bias) // self.rate)
        state = call.conv_state[:, self.region.start :]
        failed = functions().convolve_features(
            byref(self._record()),
            x.data_ptr(),
            state.data_ptr(),
            state.stride(0),
            batch,
            steps,
            None if residual is None else residual.data_ptr(),
            out.data_ptr(),
            torch.get_num_threads(),
        )
        require_memory(failed)
        return out

    def _record(self) -> _ConvolutionRecord:
        outputs, taps, width = self.weight.shape
        return _ConvolutionRecord(
            self.weight.data_ptr(),
            self.scales.data_ptr(),
            self.bias.data_ptr(),
            None if self.snake is None else self.snake.frequency.data_ptr(),
            None if self.snake is None else self.snake.amplitude.data_ptr(),
            outputs,
            taps,
            self.dilation,
            self.region.channels,
            width,
        )


def _depthwise(conv: DepthwiseConv) -> Layer[Tensor]:
    tensors = (conv.weight.T.contiguous(), conv.bias, conv.norm, conv.norm_bias)  # [K, C], [C] each
    taps, channels = tensors[0].shape

    def convolve(x: Tensor, call: CodecCall) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        x = x.contiguous()
        out, state = torch.empty_like(x), call.conv_state[:, conv.region.start :]
        record = _DepthwiseRecord(*(each.data_ptr() for each in tensors), taps, channels, LAYER_NORM_EPS)
        failed = functions().convolve_depthwise(
            byref(record), x.data_ptr(), state.data_ptr(), state.stride(0), *x.shape[:2], out.data_ptr()
        )
        require_memory(failed)
        return out

    return convolve


def _linear(linear: Linear) -> Leaf[Tensor]:
    matrix, gelu = QuantizedLinear.pack(linear.weight, _CODEC_BITS, linear.bias), linear.gelu

    def multiply(x: Tensor, _call: CodecCall, /, residual: Tensor | None = None) -> Tensor:
        out = matrix(x)
        if gelu:
            functions().gelu(out.data_ptr(), out.numel())
        return out if residual is None else residual + out

    return multiply


def native_codec_ops() -> CodecOps[Tensor]:
    """For a decoder in float32 on a CPU. Raises TtsUnavailable where the kernels cannot be compiled."""
    functions()

    return CodecOps(
        begin=CodecCall.on_copy,
        embed=lambda codebooks: codebooks,
        convolution=PackedConvolution.pack,
        depthwise=_depthwise,
        linear=_linear,
        transformer=partial(
            on_stack,
            linear=lambda weight, bias: QuantizedLinear.pack(weight, _CODEC_BITS, bias),
            make_stack=partial(NativeStack, bits=_CODEC_BITS),
        ),
        samples=lambda conv: samples_of(PackedConvolution.pack(conv)),
    )
