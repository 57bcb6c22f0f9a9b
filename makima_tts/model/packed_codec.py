"""The codec's decoder with weights and features of sixteen bits, in place of the products of torch.

In: a decoder in float32, on a CPU. Out: the same decoder, faster. Does not know: slots, codes.

Of sixteen bits thirteen are used: what that changes lies 60 dB and more below the sound, where bfloat16 is at
36 and eight bits are rough. S slots · B batch rows · F frames · T time · C channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.codec import CodecDecoder, CodecState, LayerByLayer
from makima_tts.model.codec_layers import (
    LAYER_NORM_EPS,
    CausalConv,
    ConvNeXt,
    Convolution,
    FrameUpsampler,
    Snake,
    Upsampling,
    WaveBlock,
    WaveDecoder,
)
from makima_tts.model.codec_transformer import CodecTransformer, Layer
from makima_tts.model.native.convolutions import Mixing, PackedConvolution, SnakeFactors, gelu_
from makima_tts.model.native.kernels import Places, QuantizedLayer, QuantizedMatrix, QuantizedStack
from makima_tts.model.transformer import RotaryEmbedding

_BITS = 16


@dataclass(frozen=True, slots=True)
class PackedTransformer:
    """As CodecTransformer."""

    config: CodecDecoderConfig
    inward: QuantizedMatrix
    stack: QuantizedStack
    outward: QuantizedMatrix

    def __call__(self, x: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        batch, frames, _ = x.shape
        rows = self.inward(x).flatten(0, 1)  # [B * F, E]
        here = state.position[slots][:, None] + torch.arange(frames)  # [B, F]
        turned = RotaryEmbedding.of(here.flatten(), self.config.rope_theta, self.config.head_size)
        places = Places(
            slots.repeat_interleave(frames), here.flatten(), turned.cos, turned.sin, torch.arange(len(rows))
        )
        layers = state.keys_values.transpose(0, 1)  # [L, S, 2, K, R, D]
        made = self.stack.run(rows, places, layers[:, :, 0], layers[:, :, 1])
        return self.outward(made).view(batch, frames, -1)


@dataclass(frozen=True, slots=True)
class PackedNext:
    """As ConvNeXt."""

    mixing: Mixing
    widen: QuantizedMatrix
    narrow: QuantizedMatrix

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        return x + self.narrow(gelu_(self.widen(self.mixing(x, history))))


@dataclass(frozen=True, slots=True)
class PackedUnit:
    """As ResidualUnit: both convolutions have their snake."""

    wide: PackedConvolution
    pointwise: PackedConvolution

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        return self.pointwise(self.wide(x, history), history, beside=x)


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """As WaveBlock: the transposed convolution has its snake."""

    upsampling: Upsampling
    units: tuple[PackedUnit, ...]

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        x = self.upsampling(x, history)
        for unit in self.units:
            x = unit(x, history)
        return x


@dataclass(frozen=True, slots=True)
class PackedWave:
    """As WaveDecoder: from features to samples."""

    first: PackedConvolution
    blocks: tuple[PackedBlock, ...]
    last: PackedConvolution

    def __call__(self, x: Tensor, history: Tensor) -> Tensor:
        x = self.first(x, history)
        for block in self.blocks:
            x = block(x, history)
        return self.last(x, history).squeeze(-1).clamp(-1.0, 1.0)


def packed(decoder: CodecDecoder) -> CodecDecoder:
    """``decoder``: as it was loaded, in float32."""
    layers = decoder.decoding
    if not isinstance(layers, LayerByLayer):
        raise TypeError("this decoder is not one of torch's")
    return replace(decoder, decoding=_layers(layers))


def _layers(layers: LayerByLayer) -> LayerByLayer:
    if not isinstance(layers.wave, WaveDecoder) or not isinstance(layers.transformer, CodecTransformer):
        raise TypeError("this decoder is packed already")
    return replace(
        layers,
        pre_conv=_convolution(layers.pre_conv),
        transformer=_transformer(layers.transformer),
        upsampler=FrameUpsampler(
            tuple((_upsampling(rise), _next(block)) for rise, block in layers.upsampler.stages)
        ),
        wave=PackedWave(
            _convolution(layers.wave.first),
            tuple(map(_block, layers.wave.blocks)),
            _convolution(layers.wave.last, layers.wave.snake),
        ),
    )


def _block(block: WaveBlock) -> PackedBlock:
    units = (
        PackedUnit(_convolution(unit.wide, unit.first_snake), _convolution(unit.pointwise, unit.second_snake))
        for unit in block.units
    )
    return PackedBlock(_upsampling(block.upsampling, block.snake), tuple(units))


def _upsampling(upsampling: Upsampling, snake: Snake | None = None) -> Upsampling:
    return replace(upsampling, conv=_convolution(upsampling.conv, snake))


def _next(block: Convolution) -> PackedNext:
    if not isinstance(block, ConvNeXt):
        raise TypeError("this block is packed already")
    mixing = Mixing(
        block.taps.T.contiguous(),
        block.taps_bias,
        block.norm,
        block.norm_bias,
        eps=LAYER_NORM_EPS,
        past_start=block.past.start,
    )
    return PackedNext(
        mixing,
        QuantizedMatrix.pack(block.widen, _BITS, block.widen_bias),
        QuantizedMatrix.pack(block.narrow, _BITS, block.narrow_bias),
    )


def _convolution(conv: Convolution, snake: Snake | None = None) -> PackedConvolution:
    if not isinstance(conv, CausalConv):
        raise TypeError("this convolution is packed already")
    return PackedConvolution.pack(
        conv.weight,
        conv.bias,
        taps=conv.kernel,
        dilation=conv.dilation,
        past_start=conv.past.start,
        snake=None if snake is None else SnakeFactors(snake.frequency, snake.amplitude),
    )


def _transformer(transformer: CodecTransformer) -> PackedTransformer:
    config = transformer.config
    stack = QuantizedStack(
        [_layer(layer, config.sliding_window) for layer in transformer.layers],
        transformer.norm,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        head_size=config.head_size,
        gelu=config.hidden_act == "gelu",
        eps=config.rms_norm_eps,
    )
    return PackedTransformer(
        config,
        QuantizedMatrix.pack(transformer.inward, _BITS, transformer.inward_bias),
        stack,
        QuantizedMatrix.pack(transformer.outward, _BITS, transformer.outward_bias),
    )


def _layer(layer: Layer, window: int) -> QuantizedLayer:
    return QuantizedLayer(
        qkv=QuantizedMatrix.pack(layer.qkv, _BITS),
        out=QuantizedMatrix.pack(layer.out, _BITS),
        gate_up=QuantizedMatrix.pack(layer.gate_up, _BITS),
        down=QuantizedMatrix.pack(layer.down, _BITS),
        input_norm=layer.input_norm,
        query_norm=None,
        key_norm=None,
        mlp_norm=layer.mlp_norm,
        window=window,
    )
