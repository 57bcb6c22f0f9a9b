"""Convolutions whose weights and features have sixteen bits, for tensors.

In: float32 tensors on a CPU, kernels to be packed. Out: features; the past, advanced in place. Does not know:
what features are of.

B batch rows · T time · C channels in · O channels out · K taps · N values of history.
"""

from ctypes import Structure, byref, c_double, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.native import kernels

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


class _MixingRecord(Structure):
    _fields_ = (
        ("taps", c_void_p),
        ("bias", c_void_p),
        ("norm", c_void_p),
        ("norm_bias", c_void_p),
        ("count", c_int64),
        ("channels", c_int64),
        ("eps", c_double),
    )


@dataclass(frozen=True, slots=True)
class SnakeFactors:
    """x + sin²(x · frequency) · amplitude: float32 [C] each."""

    frequency: Tensor
    amplitude: Tensor


@dataclass(frozen=True, slots=True)
class PackedConvolution:
    """``numbers``: int16 [O, K, width]; ``scales``, ``bias``: float32 [O].

    ``snake`` is applied to features before.
    ``past_start``: where in a history the last (K - 1) * dilation features lie, as they were after the snake.
    """

    numbers: Tensor
    scales: Tensor
    bias: Tensor
    channels: int
    dilation: int
    past_start: int
    snake: SnakeFactors | None

    @classmethod
    def pack(
        cls,
        weight: Tensor,
        bias: Tensor,
        *,
        taps: int,
        dilation: int = 1,
        past_start: int = 0,
        snake: SnakeFactors | None = None,
    ) -> "PackedConvolution":
        """``weight``: float32 [O, K * C], taps in the order of time."""
        outputs, channels = weight.shape[0], weight.shape[1] // taps
        width = -(-channels // _LANES) * _LANES
        numbers = torch.empty(outputs, taps, width, dtype=torch.int16)
        scales = torch.empty(outputs)
        exact = weight.float().contiguous()
        kernels.functions().pack_convolution(
            exact.data_ptr(), outputs, taps, channels, width, numbers.data_ptr(), scales.data_ptr()
        )
        return cls(numbers, scales, bias.float().contiguous(), channels, dilation, past_start, snake)

    def __call__(self, x: Tensor, history: Tensor, beside: Tensor | None = None) -> Tensor:
        """[B, T, C], history [B, N] (advanced in place) → [B, T, O], plus ``beside`` [B, T, O]."""
        x = x.contiguous()
        batch, time, _ = x.shape
        made = torch.empty(batch, time, len(self.bias))
        past = history[:, self.past_start :]
        failed = kernels.functions().convolve_features(
            byref(self._record()),
            x.data_ptr(),
            past.data_ptr(),
            past.stride(0),
            batch,
            time,
            None if beside is None else beside.data_ptr(),
            made.data_ptr(),
            torch.get_num_threads(),
        )
        kernels.demand_memory(failed)
        return made

    def _record(self) -> _ConvolutionRecord:
        outputs, taps, width = self.numbers.shape
        return _ConvolutionRecord(
            self.numbers.data_ptr(),
            self.scales.data_ptr(),
            self.bias.data_ptr(),
            None if self.snake is None else self.snake.frequency.data_ptr(),
            None if self.snake is None else self.snake.amplitude.data_ptr(),
            outputs,
            taps,
            self.dilation,
            self.channels,
            width,
        )


@dataclass(frozen=True, slots=True)
class Mixing:
    """A depthwise convolution and the layer norm after it. ``taps``: float32 [K, C], the others [C]."""

    taps: Tensor
    bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    eps: float
    past_start: int

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C], history [B, N] (advanced in place) → [B, T, C]."""
        x = x.contiguous()
        batch, time, channels = x.shape
        made, past = torch.empty_like(x), history[:, self.past_start :]
        tensors = (self.taps, self.bias, self.norm, self.norm_bias)
        record = _MixingRecord(*(each.data_ptr() for each in tensors), len(self.taps), channels, self.eps)
        failed = kernels.functions().mix_features(
            byref(record), x.data_ptr(), past.data_ptr(), past.stride(0), batch, time, made.data_ptr()
        )
        kernels.demand_memory(failed)
        return made


def gelu_(x: Tensor) -> Tensor:
    """In place, of float32 that is contiguous."""
    kernels.functions().gelu(x.data_ptr(), x.numel())
    return x
