"""The codec's encoder: reference audio becomes frames of codes, slice by slice.

In: a clip at 24 kHz. Out: its codes, in slices of work. Does not know: where clips come from, which
utterances run meanwhile.

T time: samples, features or frames · C channels in · O channels out · K taps of a kernel · N positions of
earlier slices · E hidden size · H query heads · G key heads · D head size · V width of a codebook ·
Q codebooks.

The source is ``Qwen3TTSTokenizerV2Model.encode`` of ``qwen-tts`` 0.1.1, which is ``MimiModel.encode`` of
``transformers`` 4.57.3. All of it is causal: the slices of a clip have the same codes as the clip at once.
It is computed in float32 whatever the model's precision is: a code is the nearest of many vectors, and
rounding may select another.

Time comes first, so that a convolution is one matrix product over its windows: exact in float32 on every
device, where the convolutions of cuDNN round their input to TF32.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.errors import InvalidClip
from makima_tts.model.checkpoint.config import CodecEncoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.reference_audio import SliceBudget
from makima_tts.model.transformer import ACTIVATIONS, RotaryEmbedding, joined_qkv

# By the name of a convolution: its last inputs, [K', C]. Empty at the beginning of a clip.
ConvStates = dict[str, Tensor]
PadMode = Literal["constant", "replicate"]

# The transformer runs at twice the frame rate; the convolution after it halves that.
_POSITIONS_PER_FRAME = 2
# About as much as four published frames take in the convolutions.
_MULTIPLY_ADDS_PER_SLICE = 350_000_000
# A code's usage counts as at least this much.
_MIN_USAGE = 1e-5


@dataclass(frozen=True, slots=True)
class EncoderConv:
    """A causal convolution. ``weight``: [O, K * C], ``bias``: [O]. ``elu``: applied to its input.

    A slice may have any length as long as it is whole frames. The last one may be ragged: every strided
    convolution pads its own input.
    """

    name: str
    weight: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    kernel: int
    stride: int
    dilation: int
    pad_mode: PadMode
    elu: bool

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
        elu: bool = False,
    ) -> "EncoderConv":
        weight = weights.take_conv(inputs, outputs, kernel)
        bias = weights.take("conv.bias", outputs) if biased else None
        return cls(weights.prefix, weight, bias, kernel, stride, dilation, pad_mode, elu)

    def __call__(self, x: Tensor, states: ConvStates) -> Tensor:
        """[T, C] → [T / stride, O], rounded up. Replaces its own entry of ``states``.

        T is a multiple of the stride, except at the end of the clip: there the input is padded to one, with
        zeros or with its last value, as in ``MimiConv1d._get_extra_padding_for_conv1d``.
        """
        span = (self.kernel - 1) * self.dilation + 1
        padded = self._padded(F.elu(x) if self.elu else x, states, span - self.stride)
        windows = padded.unfold(0, span, self.stride)[..., :: self.dilation]  # [T', C, K]
        return F.linear(windows.transpose(1, 2).flatten(1), self.weight, self.bias)  # [T', O]

    def _padded(self, x: Tensor, states: ConvStates, reach: int) -> Tensor:
        """With the conv state before it, [reach, C], and what completes the last window after it."""
        state = states.get(self.name)
        if state is None:
            state = self._padding(x[:1], reach)
        padded = torch.cat((state, x, self._padding(x[-1:], -len(x) % self.stride)))  # [T', C]
        states[self.name] = padded[len(padded) - reach :].clone()  # [reach, C]
        return padded

    def _padding(self, edge: Tensor, length: int) -> Tensor:
        """Beyond an edge [1, C] of the clip: [length, C]."""
        repeated = edge.expand(length, -1)
        return repeated if self.pad_mode == "replicate" else torch.zeros_like(repeated)


@dataclass(frozen=True, slots=True)
class EncoderResidualUnit:
    """A convolution to fewer channels and a pointwise one back; a residual around them, or a shortcut."""

    conv: EncoderConv
    pointwise: EncoderConv
    shortcut: EncoderConv | None

    @classmethod
    def load(
        cls, config: CodecEncoderConfig, weights: Weights, channels: int, dilation: int
    ) -> "EncoderResidualUnit":
        inner, kernel, pad_mode = channels // config.compress, config.residual_kernel_size, config.pad_mode
        conv, pointwise, shortcut = map(weights.within, ("block.1", "block.3", "shortcut"))
        return cls(
            EncoderConv.load(conv, channels, inner, kernel, dilation=dilation, pad_mode=pad_mode, elu=True),
            EncoderConv.load(pointwise, inner, channels, 1, pad_mode=pad_mode, elu=True),
            EncoderConv.load(shortcut, channels, channels, 1, pad_mode=pad_mode)
            if config.use_conv_shortcut
            else None,
        )

    def __call__(self, x: Tensor, states: ConvStates) -> Tensor:
        """[T, C] → [T, C]."""
        residual = x if self.shortcut is None else self.shortcut(x, states)
        return self.pointwise(self.conv(x, states), states) + residual


def _wave_layers(config: CodecEncoderConfig, weights: Weights) -> Iterator[EncoderConv | EncoderResidualUnit]:
    """From samples to features, 960 samples to one at the published strides: SEANet.

    A stage is residual units and a strided convolution to twice the channels. ELUs have a number in the
    checkpoint's list of layers too, but no weights.
    """
    layers = (weights.within(f"layers.{number}") for number in count())
    width, pad_mode = config.num_filters, config.pad_mode
    yield EncoderConv.load(next(layers), config.audio_channels, width, config.kernel_size, pad_mode=pad_mode)
    for ratio in reversed(config.upsampling_ratios):
        for index in range(config.num_residual_layers):
            dilation = config.dilation_growth_rate**index
            yield EncoderResidualUnit.load(config, next(layers), width, dilation)
        next(layers)
        yield EncoderConv.load(
            next(layers), width, 2 * width, 2 * ratio, stride=ratio, pad_mode=pad_mode, elu=True
        )
        width *= 2
    next(layers)
    yield EncoderConv.load(
        next(layers), width, config.hidden_size, config.last_kernel_size, pad_mode=pad_mode, elu=True
    )


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """A transformer layer. Matrices over the same input are joined.

    Layer scales are part of ``out`` and ``down_proj``.
    """

    input_norm: Tensor
    input_norm_bias: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    mlp_norm_bias: Tensor
    up_proj: Tensor
    down_proj: Tensor

    @property
    def size(self) -> int:
        """Multiply-adds for one position, without attention's own."""
        return sum(matrix.numel() for matrix in (self.qkv, self.out, self.up_proj, self.down_proj))

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "EncoderLayer":
        hidden, inner = config.hidden_size, config.intermediate_size
        attention, mlp = weights.within("self_attn"), weights.within("mlp")
        scale = weights.take("self_attn_layer_scale.scale", hidden)
        mlp_scale = weights.take("mlp_layer_scale.scale", hidden)
        queries = config.num_attention_heads * config.head_size
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            input_norm_bias=weights.take("input_layernorm.bias", hidden),
            qkv=joined_qkv(config, attention, "weight", hidden),
            qkv_bias=joined_qkv(config, attention, "bias") if config.attention_bias else None,
            out=attention.take("o_proj.weight", hidden, queries) * scale[:, None],
            out_bias=attention.take("o_proj.bias", hidden) * scale if config.attention_bias else None,
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            mlp_norm_bias=weights.take("post_attention_layernorm.bias", hidden),
            up_proj=mlp.take("fc1.weight", inner, hidden),
            down_proj=mlp.take("fc2.weight", hidden, inner) * mlp_scale[:, None],
        )


@dataclass(frozen=True, slots=True)
class EncoderTransformer:
    """Every position looks back over all of the clip. There is no norm after the last layer.

    The source is ``MimiTransformerModel`` as it runs without flash attention: it ignores ``sliding_window``.
    Flash attention, and later versions (https://github.com/huggingface/transformers/pull/43971), look back
    over 250 positions, 10 s; for clips of up to 10 s there is no difference, and we advise 5 to 15 s.
    """

    config: CodecEncoderConfig
    layers: tuple[EncoderLayer, ...] = field(repr=False)

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "EncoderTransformer":
        layers = (
            EncoderLayer.load(config, weights.within(f"layers.{index}"))
            for index in range(config.num_hidden_layers)
        )
        return cls(config, tuple(layers))

    def new_cache(self, device: torch.device) -> list[Tensor]:
        """Keys and values of one clip, of each layer [2, G, N, D], keys rotated."""
        empty = torch.zeros(2, self.config.num_key_value_heads, 0, self.config.head_size, device=device)
        return [empty] * len(self.layers)

    def __call__(self, x: Tensor, cache: list[Tensor], budget: SliceBudget) -> Generator[None, None, Tensor]:
        """[T, E] → [T, E]. Appends these positions to ``cache``."""
        positions = torch.arange(cache[0].shape[2] + len(x), device=x.device)  # [N + T]
        own = positions[-len(x) :]
        mask = positions <= own[:, None]  # [T, N + T]
        rotary = RotaryEmbedding.of(own, self.config.rope_theta, self.config.head_size)
        # Multiply-adds for one pair of positions: scores, and the weighted sum.
        work_per_pair = 2 * self.config.num_attention_heads * self.config.head_size
        for index, layer in enumerate(self.layers):
            attended, cache[index] = self._attention(layer, x, cache[index], rotary, mask)
            x = x + attended
            x = x + self._mlp(layer, x)
            if budget.spend(mask.numel() * work_per_pair + len(x) * layer.size):
                yield
        return x

    def _attention(
        self, layer: EncoderLayer, x: Tensor, cached: Tensor, rotary: RotaryEmbedding, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[T, E], and ``cached`` [2, G, N, D] → [T, E], and with these positions [2, G, N + T, D]."""
        config = self.config
        normed = F.layer_norm(x, x.shape[-1:], layer.input_norm, layer.input_norm_bias, config.norm_eps)
        heads = F.linear(normed, layer.qkv, layer.qkv_bias).view(len(x), -1, config.head_size)
        shares = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        query, key, value = torch.split(heads.transpose(0, 1), shares)  # [H, T, D], [G, T, D] twice
        own = torch.stack((rotary.rotate(key), value))  # [2, G, T, D]
        keys_values = torch.cat((cached, own), dim=2)  # [2, G, N + T, D]
        attended = F.scaled_dot_product_attention(
            rotary.rotate(query),
            keys_values[0],
            keys_values[1],
            attn_mask=mask,
            enable_gqa=config.num_attention_heads != config.num_key_value_heads,
        )  # [H, T, D]
        return F.linear(attended.transpose(0, 1).flatten(1), layer.out, layer.out_bias), keys_values

    def _mlp(self, layer: EncoderLayer, x: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], layer.mlp_norm, layer.mlp_norm_bias, self.config.norm_eps)
        inner = ACTIVATIONS[self.config.hidden_act](F.linear(normed, layer.up_proj))
        return F.linear(inner, layer.down_proj)


@dataclass(frozen=True, slots=True)
class Codebook:
    """``vectors``: [codes, V]. ``half_squares``: [codes], half of each vector's squared length."""

    vectors: Tensor = field(repr=False)
    half_squares: Tensor = field(repr=False)

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "Codebook":
        """The checkpoint keeps sums over training and how often each code was used: a vector is the mean."""
        width = config.vector_quantization_hidden_dimension
        total = weights.take("embed_sum", config.codebook_size, width)
        usage = weights.take("cluster_usage", config.codebook_size)
        vectors = total / usage.clamp(min=_MIN_USAGE)[:, None]
        return cls(vectors, vectors.square().sum(1) / 2)

    def nearest(self, x: Tensor) -> Tensor:
        """[T, V] → int64 [T]: by half of the squared distance, without the term that all codes share."""
        return torch.addmm(self.half_squares, x, self.vectors.T, alpha=-1).argmin(1)


@dataclass(frozen=True, slots=True)
class ResidualQuantizer:
    """Each codebook codes what those before it left over.

    ``in_proj``: [V, E], or None where the features are as wide as the codebooks.
    """

    in_proj: Tensor | None = field(repr=False)
    codebooks: tuple[Codebook, ...]

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights, codebooks: int) -> "ResidualQuantizer":
        width, hidden = config.vector_quantization_hidden_dimension, config.hidden_size
        in_proj = weights.take("input_proj.weight", width, hidden, 1).squeeze(2) if width != hidden else None
        loaded = (
            Codebook.load(config, weights.within(f"layers.{index}.codebook")) for index in range(codebooks)
        )
        return cls(in_proj, tuple(loaded))

    def __call__(self, x: Tensor, budget: SliceBudget) -> Generator[None, None, list[Tensor]]:
        """[T, E] → int64 [T] for each codebook."""
        residual = x if self.in_proj is None else F.linear(x, self.in_proj)  # [T, V]
        codes = []
        for codebook in self.codebooks:
            codes.append(codebook.nearest(residual))
            residual = residual - codebook.vectors[codes[-1]]
            if budget.spend(len(x) * codebook.vectors.numel()):
                yield
        return codes


def _split_quantizer(
    config: CodecEncoderConfig, weights: Weights, codebooks: int
) -> Iterator[ResidualQuantizer]:
    """Of the semantic and of the acoustic codebooks, which both start from the features; the first of all."""
    semantic = min(config.num_semantic_quantizers, codebooks)
    for name, number in (("semantic", semantic), ("acoustic", codebooks - semantic)):
        yield ResidualQuantizer.load(config, weights.within(f"{name}_residual_vector_quantizer"), number)


@dataclass(frozen=True, slots=True)
class CodecEncoder:
    """``frame_samples``: samples in a frame, 1920 at the published sizes.

    ``wave_frames``: how many frames one slice takes through the convolutions. ``code_frames``: how many go
    through all that comes after them together, in slices of ``work_per_slice`` multiply-adds.
    """

    wave: tuple[EncoderConv | EncoderResidualUnit, ...]
    transformer: EncoderTransformer
    down: EncoderConv
    quantizers: tuple[ResidualQuantizer, ...]
    frame_samples: int
    device: torch.device
    wave_frames: int = 4
    code_frames: int = 40
    work_per_slice: int = _MULTIPLY_ADDS_PER_SLICE

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights, *, codebooks: int) -> "CodecEncoder":
        """``codebooks``: Q, the first so many. Raises TtsUnavailable for tensors of other shapes."""
        exact, hidden = weights.as_dtype(torch.float32), config.hidden_size
        down = EncoderConv.load(
            exact.within("downsample"),
            hidden,
            hidden,
            2 * _POSITIONS_PER_FRAME,
            stride=_POSITIONS_PER_FRAME,
            biased=False,
            pad_mode="replicate",
        )
        return cls(
            wave=tuple(_wave_layers(config, exact.within("encoder"))),
            transformer=EncoderTransformer.load(config, exact.within("encoder_transformer")),
            down=down,
            quantizers=tuple(_split_quantizer(config, exact.within("quantizer"), codebooks)),
            frame_samples=prod(config.upsampling_ratios) * _POSITIONS_PER_FRAME,
            device=weights.device,
        )

    def encode(self, pcm: Tensor) -> Generator[None, None, Tensor]:
        """float32 [samples] at 24 kHz → codes int64 [T, Q]; T is samples / ``frame_samples``, rounded up.

        Yields between slices of work. Raises InvalidClip when there is no sample.
        """
        if not len(pcm):
            raise InvalidClip("The reference audio holds no sound.")
        features = yield from self._features(pcm.to(self.device, torch.float32))
        return (yield from self._codes(features))

    def _features(self, pcm: Tensor) -> Generator[None, None, Tensor]:
        """[samples] → [2 * T or one less, E]."""
        states: ConvStates = {}
        features = []
        for piece in torch.split(pcm, self.wave_frames * self.frame_samples):
            x = piece.unsqueeze(1)  # [T, 1]
            for layer in self.wave:
                x = layer(x, states)
            features.append(x)
            yield
        return torch.cat(features)

    def _codes(self, features: Tensor) -> Generator[None, None, Tensor]:
        """[2 * T or one less, E] → [T, Q]."""
        states: ConvStates = {}
        budget = SliceBudget(self.work_per_slice)
        cache = self.transformer.new_cache(self.device)
        codes = []
        for piece in torch.split(features, self.code_frames * _POSITIONS_PER_FRAME):
            x = yield from self.transformer(piece, cache, budget)
            x = self.down(x, states)
            by_codebook = []
            for quantizer in self.quantizers:
                by_codebook += yield from quantizer(x, budget)
            codes.append(torch.stack(by_codebook, dim=1))
        return torch.cat(codes)
