"""The convolutions that turn a codec frame's features into sound, causal and streaming.

In: features of one call, and the histories of its rows. Out: features, upsampled, in the end samples; the
histories, advanced in place. Does not know: codes, slots, the transformer.

B batch rows · T time · C channels in · O channels out · K taps of a kernel · N values of history.
Channels come last, so that a convolution is one matrix product over its window: on a CPU that is several
times as fast as the convolutions of torch, whose layout is channels first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_state import HistoryPlan, Past

_KERNEL = 7
_DILATIONS = (1, 3, 9)
_WIDENING = 4
LAYER_NORM_EPS = 1e-6
_SNAKE_EPS = 1e-9
# Beyond it, e^alpha times a feature may overflow, and the sine of infinity is NaN. A float32 phase is
# meaningless long before.
_MAX_FREQUENCY = 1e20


class Convolution(Protocol):
    """One that sees its input and what came before."""

    def __call__(self, x: Tensor, history: Tensor, /) -> Tensor:
        """[B, T, C] → [B, T, O]; ``history`` [B, N] is advanced in place."""


@dataclass(frozen=True, slots=True)
class CausalConv:
    """A convolution that sees its input and what came before. ``weight``: [O, K * C], ``bias``: [O]."""

    weight: Tensor
    bias: Tensor
    kernel: int
    dilation: int
    past: Past

    @classmethod
    def load(
        cls, weights: Weights, plan: HistoryPlan, inputs: int, outputs: int, *, kernel: int, dilation: int = 1
    ) -> "CausalConv":
        weight = weights.take("conv.weight", outputs, inputs, kernel)
        past = plan.reserve((kernel - 1) * dilation, inputs)
        matrix = weight.transpose(1, 2).reshape(outputs, -1)  # [O, K * C]
        return cls(matrix, weights.take("conv.bias", outputs), kernel, dilation, past)

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → [B, T, O]."""
        longer = self.past.prepend(x, history)
        windows = longer.unfold(1, self.past.length + 1, 1)[..., :: self.dilation]  # [B, T, C, K]
        return F.linear(windows.transpose(2, 3).contiguous().flatten(2), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Upsampling:
    """A transposed convolution whose kernel is a multiple of its stride.

    That is a convolution with kernel / stride taps and stride times the channels: where the reference adds
    the overlap of neighbours, this one multiplies the previous input by its half of the kernel.
    """

    conv: Convolution
    rate: int

    @classmethod
    def load(
        cls, weights: Weights, plan: HistoryPlan, inputs: int, outputs: int, *, rate: int, taps: int
    ) -> "Upsampling":
        kernel = weights.take("conv.weight", inputs, outputs, taps * rate)
        latest_last = kernel.view(inputs, outputs, taps, rate).flip(2)  # [C, O, taps, rate]
        matrix = latest_last.permute(3, 1, 2, 0).reshape(rate * outputs, taps * inputs)
        bias = weights.take("conv.bias", outputs).repeat(rate)
        return cls(CausalConv(matrix, bias, taps, 1, plan.reserve(taps - 1, inputs)), rate)

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → [B, T * rate, O]."""
        batch, time, _ = x.shape
        return self.conv(x, history).view(batch, time * self.rate, -1)


@dataclass(frozen=True, slots=True)
class Snake:
    """x + sin²(x · e^alpha) / (e^beta + 1e-9), the SnakeBeta of BigVGAN (arXiv:2206.04658).

    Both factors are float32 and so is the sine, whatever the features are: a phase is a product that may be
    large, and bfloat16 would round most of it away.
    """

    frequency: Tensor
    amplitude: Tensor

    @classmethod
    def load(cls, weights: Weights, channels: int) -> "Snake":
        exact = weights.as_dtype(torch.float32)
        alpha, beta = exact.take("alpha", channels), exact.take("beta", channels)
        return cls(alpha.exp().clamp(max=_MAX_FREQUENCY), 1.0 / (beta.exp() + _SNAKE_EPS))

    def __call__(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        wave = (x * self.frequency).sin_().square_().mul_(self.amplitude)
        return wave.add_(x).to(x.dtype)


@dataclass(frozen=True, slots=True)
class ConvNeXt:
    """A depthwise convolution and a wide MLP beside the features (arXiv:2201.03545).

    ``taps``: [C, K]. The block's last scale, gamma, is part of ``narrow``.
    """

    taps: Tensor
    taps_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    widen: Tensor
    widen_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor
    past: Past

    @classmethod
    def load(cls, weights: Weights, plan: HistoryPlan, channels: int) -> "ConvNeXt":
        wide = _WIDENING * channels
        exact = weights.as_dtype(torch.float32)
        gamma = exact.take("gamma", channels)
        narrow = exact.take("pwconv2.weight", channels, wide) * gamma[:, None]
        return cls(
            taps=weights.take("dwconv.conv.weight", channels, 1, _KERNEL).squeeze(1),
            taps_bias=weights.take("dwconv.conv.bias", channels),
            norm=weights.take("norm.weight", channels),
            norm_bias=weights.take("norm.bias", channels),
            widen=weights.take("pwconv1.weight", wide, channels),
            widen_bias=weights.take("pwconv1.bias", wide),
            narrow=narrow.to(weights.dtype),
            narrow_bias=(exact.take("pwconv2.bias", channels) * gamma).to(weights.dtype),
            past=plan.reserve(_KERNEL - 1, channels),
        )

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        windows = self.past.prepend(x, history).unfold(1, _KERNEL, 1)  # [B, T, C, K]
        mixed = (windows * self.taps).sum(-1) + self.taps_bias  # [B, T, C]
        normed = F.layer_norm(mixed, mixed.shape[-1:], self.norm, self.norm_bias, LAYER_NORM_EPS)
        wide = F.gelu(F.linear(normed, self.widen, self.widen_bias))  # [B, T, 4 * C]
        return x + F.linear(wide, self.narrow, self.narrow_bias)


@dataclass(frozen=True, slots=True)
class ResidualUnit:
    """A wide convolution and a pointwise one, each after a snake, beside the features."""

    first_snake: Snake
    wide: CausalConv
    second_snake: Snake
    pointwise: CausalConv

    @classmethod
    def load(cls, weights: Weights, plan: HistoryPlan, channels: int, dilation: int) -> "ResidualUnit":
        return cls(
            first_snake=Snake.load(weights.within("act1"), channels),
            wide=CausalConv.load(
                weights.within("conv1"), plan, channels, channels, kernel=_KERNEL, dilation=dilation
            ),
            second_snake=Snake.load(weights.within("act2"), channels),
            pointwise=CausalConv.load(weights.within("conv2"), plan, channels, channels, kernel=1),
        )

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        mixed = self.wide(self.first_snake(x), history)
        return x + self.pointwise(self.second_snake(mixed), history)


@dataclass(frozen=True, slots=True)
class WaveBlock:
    """One step towards sound: more samples, fewer channels."""

    snake: Snake
    upsampling: Upsampling
    units: tuple[ResidualUnit, ...]

    @classmethod
    def load(cls, weights: Weights, plan: HistoryPlan, inputs: int, outputs: int, rate: int) -> "WaveBlock":
        snake = Snake.load(weights.within("0"), inputs)
        upsampling = Upsampling.load(weights.within("1"), plan, inputs, outputs, rate=rate, taps=2)
        units = (
            ResidualUnit.load(weights.within(str(index)), plan, outputs, dilation)
            for index, dilation in enumerate(_DILATIONS, start=2)
        )
        return cls(snake, upsampling, tuple(units))

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → [B, T * rate, O]."""
        x = self.upsampling(self.snake(x), history)
        for unit in self.units:
            x = unit(x, history)
        return x


@dataclass(frozen=True, slots=True)
class FrameUpsampler:
    """From frames to the pace at which the wave begins: transposed convolutions without overlap, ConvNeXt."""

    stages: tuple[tuple[Upsampling, Convolution], ...]

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights, plan: HistoryPlan) -> "FrameUpsampler":
        return cls(tuple(cls._stages(config, weights, plan)))

    @staticmethod
    def _stages(
        config: CodecDecoderConfig, weights: Weights, plan: HistoryPlan
    ) -> Iterator[tuple[Upsampling, Convolution]]:
        width = config.latent_dim
        for index, rate in enumerate(config.upsampling_ratios):
            stage = weights.within(str(index))
            upsampling = Upsampling.load(stage.within("0"), plan, width, width, rate=rate, taps=1)
            yield upsampling, ConvNeXt.load(stage.within("1"), plan, width)

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, F, C] → [B, T, C]."""
        for upsampling, block in self.stages:
            x = block(upsampling(x, history), history)
        return x


@dataclass(frozen=True, slots=True)
class WaveDecoder:
    """From features to samples."""

    first: CausalConv
    blocks: tuple[WaveBlock, ...]
    snake: Snake
    last: CausalConv

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights, plan: HistoryPlan) -> "WaveDecoder":
        widths = [config.decoder_dim // 2**level for level in range(len(config.upsample_rates) + 1)]
        sizes = zip(pairwise(widths), config.upsample_rates, strict=True)
        first = CausalConv.load(weights.within("0"), plan, config.latent_dim, widths[0], kernel=_KERNEL)
        blocks = tuple(
            WaveBlock.load(weights.within(f"{index}.block"), plan, inputs, outputs, rate)
            for index, ((inputs, outputs), rate) in enumerate(sizes, start=1)
        )
        snake = Snake.load(weights.within(str(len(widths))), widths[-1])
        last = CausalConv.load(weights.within(str(len(widths) + 1)), plan, widths[-1], 1, kernel=_KERNEL)
        return cls(first, blocks, snake, last)

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        """[B, T, C] → samples, float32 [B, T * product of the rates]."""
        x = self.first(x, history)
        for block in self.blocks:
            x = block(x, history)
        return self.last(self.snake(x), history).squeeze(-1).float().clamp(-1.0, 1.0)
