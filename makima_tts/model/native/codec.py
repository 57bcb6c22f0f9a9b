"""The codec decoder's leaves in C: weights and features of sixteen bits, on a CPU.

In: leaves of torch in float32. Out: the same leaves, faster. Does not know: slots, the order of layers.

B batch rows · F frames · T time · C channels in · O channels out · K taps · N values of conv state.

Thirteen of the sixteen bits are used: the error lies 60 dB and more below the sound, where bfloat16's is at
36 and that of eight bits is audible.
"""

from collections.abc import Callable
from ctypes import Structure, byref, c_double, c_int64, c_void_p
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from makima_tts.model.codec_ops import (
    LAYER_NORM_EPS,
    CausalConv,
    CodecOps,
    DepthwiseConv,
    Leaf,
    Linear,
    Snake,
    samples_of,
)
from makima_tts.model.codec_state import CodecCall, StateRegion
from makima_tts.model.codec_transformer import on_stack
from makima_tts.model.native import kernels
from makima_tts.model.native.kernels import QuantizedLinear
from makima_tts.model.native.transformer import NativeStack

_BITS = 16
# As in convolution.c.
_LANES = 32


class _ConvolutionRecord(Structure):
    _fields_ = (
        ("weights", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("frequency", c_void_p),
        ("amplitude", c_void_p),
        ("outputs", c_int64),
        ("taps", c_int64),
        ("dilation", c_int64),
        ("channels", c_int64),
        ("width", c_int64),
    )


class _DepthwiseRecord(Structure):
    _fields_ = (
        ("weights", c_void_p),
        ("bias", c_void_p),
        ("norm", c_void_p),
        ("norm_bias", c_void_p),
        ("taps", c_int64),
        ("channels", c_int64),
        ("eps", c_double),
    )


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
        width = -(-channels // _LANES) * _LANES
        weight = torch.empty(outputs, taps, width, dtype=torch.int16)
        scales = torch.empty(outputs)
        exact = conv.weight.float().contiguous()
        kernels.functions().pack_convolution(
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
        failed = kernels.functions().convolve_features(
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
        kernels.require_memory(failed)
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


@dataclass(frozen=True, slots=True)
class PackedDepthwiseConv:
    """A depthwise convolution and its layer norm. ``weight``: float32 [K, C], the others [C]."""

    weight: Tensor
    bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    region: StateRegion

    @classmethod
    def pack(cls, conv: DepthwiseConv) -> "PackedDepthwiseConv":
        return cls(conv.weight.T.contiguous(), conv.bias, conv.norm, conv.norm_bias, conv.region)

    def __call__(self, x: Tensor, call: CodecCall, /) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        x = x.contiguous()
        batch, steps, channels = x.shape
        out, state = torch.empty_like(x), call.conv_state[:, self.region.start :]
        tensors = (self.weight, self.bias, self.norm, self.norm_bias)
        record = _DepthwiseRecord(
            *(each.data_ptr() for each in tensors), len(self.weight), channels, LAYER_NORM_EPS
        )
        failed = kernels.functions().convolve_depthwise(
            byref(record), x.data_ptr(), state.data_ptr(), state.stride(0), batch, steps, out.data_ptr()
        )
        kernels.require_memory(failed)
        return out


def _linear(linear: Linear) -> Leaf[Tensor]:
    matrix, gelu = QuantizedLinear.pack(linear.weight, _BITS, linear.bias), linear.gelu

    def multiply(x: Tensor, _call: CodecCall, /, residual: Tensor | None = None) -> Tensor:
        out = matrix(x)
        if gelu:
            kernels.functions().gelu(out.data_ptr(), out.numel())
        return out if residual is None else residual + out

    return multiply


def native_codec_ops() -> CodecOps[Tensor]:
    """For a decoder in float32 on a CPU. Raises TtsUnavailable where the kernels cannot be compiled."""
    kernels.functions()

    def samples(conv: CausalConv) -> Callable[[Tensor, CodecCall], Tensor]:
        return samples_of(PackedConvolution.pack(conv))

    return CodecOps(
        begin=CodecCall.on_copy,
        embed=lambda codebooks: codebooks,
        convolution=PackedConvolution.pack,
        depthwise=PackedDepthwiseConv.pack,
        linear=_linear,
        transformer=partial(
            on_stack,
            linear=lambda weight, bias: QuantizedLinear.pack(weight, _BITS, bias),
            make_stack=partial(NativeStack, bits=_BITS),
        ),
        samples=samples,
    )
