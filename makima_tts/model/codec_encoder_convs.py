"""The convolutions that turn sound into features, causal and slice by slice: SEANet as Mimi has it.

In: a slice of a clip, and what earlier slices left behind. Out: features, 960 samples to one at the published
strides; what this slice leaves behind. Does not know: frames, codes, how long the clip is.

T time · C channels in · O channels out · K taps of a kernel.
Time comes first, so that a convolution is one matrix product over its windows: exact in float32 on every
device, where the convolutions of cuDNN round their input to TF32.

The source is ``MimiEncoder`` of ``transformers`` 4.57.3. A slice may have any length as long as it is whole
frames; the last one may be ragged, and is completed by every strided convolution for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecEncoderConfig
from makima_tts.model.checkpoint.weights import Weights

# By the name of a convolution: its last inputs, [K', C]. Empty is the beginning of a clip.
Pasts = dict[str, Tensor]
PadMode = Literal["constant", "replicate"]


@dataclass(frozen=True, slots=True)
class EncoderConv:
    """A convolution that sees its input and what came before. ``weight``: [O, K * C], ``bias``: [O]."""

    name: str
    weight: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    kernel: int
    stride: int
    dilation: int
    pad_mode: PadMode

    @classmethod
    def load(
        cls,
        weights: Weights,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        pad_mode: PadMode,
        stride: int = 1,
        dilation: int = 1,
        biased: bool = True,
    ) -> "EncoderConv":
        weight = weights.take("conv.weight", outputs, inputs, kernel)
        matrix = weight.transpose(1, 2).reshape(outputs, -1)  # [O, K * C]
        bias = weights.take("conv.bias", outputs) if biased else None
        return cls(weights.prefix, matrix, bias, kernel, stride, dilation, pad_mode)

    @property
    def span(self) -> int:
        """Inputs from the first tap to the last."""
        return (self.kernel - 1) * self.dilation + 1

    def __call__(self, x: Tensor, pasts: Pasts) -> Tensor:
        """[T, C] → [T / stride, O], rounded up. Replaces its own entry of ``pasts``.

        T is a multiple of the stride, except at the end of the clip: there the input is padded to one, with
        zeros or with its last value, as ``MimiConv1d._get_extra_padding_for_conv1d`` has it.
        """
        longer = self._longer(x, pasts)
        windows = longer.unfold(0, self.span, self.stride)[..., :: self.dilation]  # [T', C, K]
        return F.linear(windows.transpose(1, 2).flatten(1), self.weight, self.bias)  # [T', O]

    def _longer(self, x: Tensor, pasts: Pasts) -> Tensor:
        """With its past before it, and with what completes its last window after it."""
        reach = self.span - self.stride
        past = pasts.get(self.name)
        if past is None:
            past = self._filler(x[:1], reach)
        longer = torch.cat((past, x, self._filler(x[-1:], -len(x) % self.stride)))  # [T', C]
        pasts[self.name] = longer[len(longer) - reach :].clone()  # [reach, C]
        return longer

    def _filler(self, edge: Tensor, length: int) -> Tensor:
        """What is there beyond an edge [1, C] of the clip: [length, C]."""
        repeated = edge.expand(length, -1)
        return repeated if self.pad_mode == "replicate" else torch.zeros_like(repeated)


@dataclass(frozen=True, slots=True)
class EncoderUnit:
    """A narrow convolution and a pointwise one, each after an ELU, beside the features."""

    wide: EncoderConv
    pointwise: EncoderConv
    shortcut: EncoderConv | None

    @classmethod
    def load(
        cls, config: CodecEncoderConfig, weights: Weights, channels: int, dilation: int
    ) -> "EncoderUnit":
        narrow, pad_mode = channels // config.compress, config.pad_mode
        block = weights.within("block")
        return cls(
            wide=EncoderConv.load(
                block.within("1"),
                channels,
                narrow,
                config.residual_kernel_size,
                dilation=dilation,
                pad_mode=pad_mode,
            ),
            pointwise=EncoderConv.load(block.within("3"), narrow, channels, 1, pad_mode=pad_mode),
            shortcut=EncoderConv.load(weights.within("shortcut"), channels, channels, 1, pad_mode=pad_mode)
            if config.use_conv_shortcut
            else None,
        )

    def __call__(self, x: Tensor, pasts: Pasts) -> Tensor:
        """[T, C] → [T, C]."""
        mixed = self.pointwise(F.elu(self.wide(F.elu(x), pasts)), pasts)
        return mixed + (x if self.shortcut is None else self.shortcut(x, pasts))


@dataclass(frozen=True, slots=True)
class EncoderStage:
    """Units, then a convolution to fewer steps of twice the channels."""

    units: tuple[EncoderUnit, ...]
    down: EncoderConv

    @classmethod
    def load(
        cls, config: CodecEncoderConfig, layers: Iterator[Weights], channels: int, ratio: int
    ) -> "EncoderStage":
        units = tuple(
            EncoderUnit.load(config, next(layers), channels, config.dilation_growth_rate**level)
            for level in range(config.num_residual_layers)
        )
        next(layers)  # An ELU, which has a number but no weights.
        down = EncoderConv.load(
            next(layers), channels, 2 * channels, 2 * ratio, stride=ratio, pad_mode=config.pad_mode
        )
        return cls(units, down)

    def __call__(self, x: Tensor, pasts: Pasts) -> Tensor:
        """[T, C] → [T / ratio, 2 * C], rounded up."""
        for unit in self.units:
            x = unit(x, pasts)
        return self.down(F.elu(x), pasts)


@dataclass(frozen=True, slots=True)
class WaveEncoder:
    """From samples to features."""

    first: EncoderConv
    stages: tuple[EncoderStage, ...]
    last: EncoderConv

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "WaveEncoder":
        layers = (weights.within(f"layers.{number}") for number in count())
        width, pad_mode = config.num_filters, config.pad_mode
        first = EncoderConv.load(
            next(layers), config.audio_channels, width, config.kernel_size, pad_mode=pad_mode
        )
        stages = tuple(
            EncoderStage.load(config, layers, width * 2**level, ratio)
            for level, ratio in enumerate(reversed(config.upsampling_ratios))
        )
        next(layers)  # An ELU again.
        last = EncoderConv.load(
            next(layers),
            width * 2 ** len(stages),
            config.hidden_size,
            config.last_kernel_size,
            pad_mode=pad_mode,
        )
        return cls(first, stages, last)

    def __call__(self, pcm: Tensor, pasts: Pasts) -> Tensor:
        """[samples] → [T, C]: T is samples divided by all ratios, rounded up."""
        x = self.first(pcm.unsqueeze(1), pasts)
        for stage in self.stages:
            x = stage(x, pasts)
        return self.last(F.elu(x), pasts)
