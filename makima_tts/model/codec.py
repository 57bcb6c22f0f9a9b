"""The codec's decoder: codes become samples, frame by frame, exactly as if all of them had come at once.

In: codes of the next frames of some slots, the state of all slots. Out: their samples; the state of these
slots, advanced in place. Does not know: the utterances, when to decode, sample formats, how leaves
are computed.

S slots · B batch rows · F frames · Q codebooks · V codes in a codebook · T time · C channels.
The decoder is causal without look-ahead: convolutions keep their last inputs, the transformer its last keys
and values (``CodecState``), and nothing is computed twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Generic

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_ops import (
    MAX_FRAMES,
    CausalConv,
    Codebooks,
    CodecCall,
    CodecOps,
    CodecState,
    CodecTransformer,
    DepthwiseConv,
    Layer,
    Leaf,
    Linear,
    Snake,
    StateLayout,
    X,
    ring_frames,
)

_MIN_USAGE = 1e-5
_PRE_CONV_KERNEL = 3
_KERNEL = 7
_DILATIONS = (1, 3, 9)
_EXPANSION = 4


@dataclass(frozen=True, slots=True)
class ConvNeXt(Generic[X]):
    """A depthwise convolution and a wide MLP, a residual around them (arXiv:2201.03545)."""

    depthwise: Layer[X]
    up_proj: Leaf[X]
    down_proj: Leaf[X]

    @classmethod
    def load(cls, weights: Weights, layout: StateLayout, ops: CodecOps[X], channels: int) -> "ConvNeXt[X]":
        """The block's last scale, gamma, becomes part of ``down_proj``."""
        wide = _EXPANSION * channels
        exact = weights.as_dtype(torch.float32)
        gamma = exact.take("gamma", channels)
        up_proj = Linear(
            weights.take("pwconv1.weight", wide, channels), weights.take("pwconv1.bias", wide), gelu=True
        )
        down_proj = Linear(
            (exact.take("pwconv2.weight", channels, wide) * gamma[:, None]).to(weights.dtype),
            (exact.take("pwconv2.bias", channels) * gamma).to(weights.dtype),
        )
        depthwise = ops.depthwise(DepthwiseConv.load(weights, layout, channels, _KERNEL))
        return cls(depthwise, ops.linear(up_proj), ops.linear(down_proj))

    def __call__(self, x: X, call: CodecCall) -> X:
        """[B, T, C] → [B, T, C]."""
        return self.down_proj(self.up_proj(self.depthwise(x, call), call), call, residual=x)


@dataclass(frozen=True, slots=True)
class ResidualUnit(Generic[X]):
    """A dilated convolution and a pointwise one, a snake before each; a residual around them."""

    conv: Leaf[X]
    pointwise: Leaf[X]

    @classmethod
    def load(
        cls, weights: Weights, layout: StateLayout, ops: CodecOps[X], channels: int, dilation: int
    ) -> "ResidualUnit[X]":
        first, second = (Snake.load(weights.within(f"act{number}"), channels) for number in (1, 2))
        conv = CausalConv.load(
            weights.within("conv1"),
            layout,
            channels,
            channels,
            _KERNEL,
            dilation=dilation,
            snake=first,
            is_residual=True,
        )
        pointwise = CausalConv.load(weights.within("conv2"), layout, channels, channels, 1, snake=second)
        return cls(ops.convolution(conv), ops.convolution(pointwise))

    def __call__(self, x: X, call: CodecCall) -> X:
        """[B, T, C] → [B, T, C]."""
        return self.pointwise(self.conv(x, call), call, residual=x)


def wave_block(
    weights: Weights, layout: StateLayout, ops: CodecOps[X], inputs: int, outputs: int, *, rate: int
) -> Iterator[Layer[X]]:
    """A transposed convolution and residual units: [B, T, C] → [B, T * rate, O]."""
    snake = Snake.load(weights.within("0"), inputs)
    upsampling = CausalConv.load_transposed(
        weights.within("1"), layout, inputs, outputs, rate=rate, taps=2, snake=snake
    )
    yield ops.convolution(upsampling)
    for index, dilation in enumerate(_DILATIONS, start=2):
        yield ResidualUnit.load(weights.within(str(index)), layout, ops, outputs, dilation)


def _frame_layers(
    config: CodecDecoderConfig, weights: Weights, layout: StateLayout, ops: CodecOps[X]
) -> Iterator[Layer[X]]:
    """From the codebooks' vectors to latent features at the rate at which the wave decoder starts."""
    inputs, width, pre_conv = config.codebook_dim, config.latent_dim, weights.within("pre_conv")
    yield ops.convolution(CausalConv.load(pre_conv, layout, inputs, width, _PRE_CONV_KERNEL))
    yield ops.transformer(CodecTransformer.load(config, weights.within("pre_transformer")))
    for index, rate in enumerate(config.upsampling_ratios):
        stage = weights.within(f"upsample.{index}")
        upsampling = CausalConv.load_transposed(stage.within("0"), layout, width, width, rate=rate, taps=1)
        yield ops.convolution(upsampling)
        yield ConvNeXt.load(stage.within("1"), layout, ops, width)


def _wave_layers(
    config: CodecDecoderConfig, weights: Weights, layout: StateLayout, ops: CodecOps[X]
) -> Iterator[Layer[X]]:
    """From latent features to the input of the last convolution."""
    widths, first = _wave_widths(config), weights.within("0")
    yield ops.convolution(CausalConv.load(first, layout, config.latent_dim, widths[0], _KERNEL))
    sizes = zip(pairwise(widths), config.upsample_rates, strict=True)
    for index, ((inputs, outputs), rate) in enumerate(sizes, start=1):
        yield from wave_block(weights.within(f"{index}.block"), layout, ops, inputs, outputs, rate=rate)


def _wave_widths(config: CodecDecoderConfig) -> list[int]:
    return [config.decoder_dim // 2**index for index in range(len(config.upsample_rates) + 1)]


def last_conv(config: CodecDecoderConfig, weights: Weights, layout: StateLayout) -> CausalConv:
    """The one whose output is samples, [B, T, C] → [B, T, 1]."""
    widths = _wave_widths(config)
    snake = Snake.load(weights.within(str(len(widths))), widths[-1])
    conv = weights.within(str(len(widths) + 1))
    return CausalConv.load(conv, layout, widths[-1], 1, _KERNEL, snake=snake)


def load_codebooks(config: CodecDecoderConfig, weights: Weights) -> Codebooks:
    rest = config.num_quantizers - 1
    halves = (_projected(config, weights, "rvq_first", 1), _projected(config, weights, "rvq_rest", rest))
    offsets = torch.arange(config.num_quantizers, device=weights.device) * config.codebook_size
    return Codebooks(torch.cat(halves).to(weights.dtype), offsets)


def _projected(config: CodecDecoderConfig, weights: Weights, half: str, codebooks: int) -> Tensor:
    """The vectors of one half's codebooks after its projection: float32 [codebooks * V, C]."""
    outer, inner, size = config.codebook_dim, config.codebook_dim // 2, config.codebook_size
    exact = weights.within(half).as_dtype(torch.float32)
    projection = exact.take("output_proj.weight", outer, inner, 1).squeeze(2)  # [C, inner]
    vectors = []
    for index in range(codebooks):
        codebook = exact.within(f"vq.layers.{index}._codebook")
        usage = codebook.take("cluster_usage", size).clamp(min=_MIN_USAGE)
        vectors.append(codebook.take("embedding_sum", size, inner) / usage[:, None])  # [V, inner]
    return torch.cat(vectors) @ projection.T


@dataclass(frozen=True, slots=True)
class CodecDecoder:
    """The whole decoder. ``state_size``: N of the state; ``device`` and ``dtype``: of the state and weights.

    What passes between ``layers`` is the backend's own type of features.
    """

    config: CodecDecoderConfig
    begin: Callable[[CodecState, Tensor, int], CodecCall]
    embed: Callable[[Tensor, CodecCall], Any]
    layers: tuple[Layer[Any], ...]
    samples: Callable[[Any, CodecCall], Tensor]
    state_size: int
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights, ops: CodecOps[X]) -> "CodecDecoder":
        """``weights``: those below ``decoder.`` in the codec's file."""
        layout, wave = StateLayout(), weights.within("decoder")
        embed = ops.embed(load_codebooks(config, weights.within("quantizer")))
        layers = (*_frame_layers(config, weights, layout, ops), *_wave_layers(config, wave, layout, ops))
        samples = ops.samples(last_conv(config, wave, layout))
        return cls(config, ops.begin, embed, layers, samples, layout.size, weights.device, weights.dtype)

    @property
    def frame_samples(self) -> int:
        return prod(self.config.upsampling_ratios) * prod(self.config.upsample_rates)

    def new_state(self, slots: int) -> CodecState:
        """All slots at the beginning of a stream."""
        config = self.config
        ring = (2, config.num_key_value_heads, ring_frames(config), config.head_size)
        return CodecState(
            position=torch.zeros(slots, dtype=torch.int64, device=self.device),
            conv_state=torch.zeros(slots, self.state_size, device=self.device, dtype=self.dtype),
            keys_values=torch.zeros(
                slots, config.num_hidden_layers, *ring, device=self.device, dtype=self.dtype
            ),
        )

    def decode(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        """The next F ≥ 1 frames of distinct slots.

        ``codes``: int64 [B, F, Q] from 0 to codebook_size - 1, ``slots``: int64 [B] → float32
        [B, F * frame_samples] from -1 to 1. At most MAX_FRAMES are computed at once, which bounds the memory
        that a call needs.
        """
        sound = [self._decode(some, state, slots) for some in torch.split(codes, MAX_FRAMES, dim=1)]
        return sound[0] if len(sound) == 1 else torch.cat(sound, dim=1)

    def _decode(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        call = self.begin(state, slots, codes.shape[1])
        x = self.embed(codes, call)
        for layer in self.layers:
            x = layer(x, call)
        return self.samples(x, call)
