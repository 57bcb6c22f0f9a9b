"""The leaf operations of the codec's decoder: which there are, their state, and how torch computes them.

In: features of one call, the state of its slots. Out: features, in the end samples; the state, advanced in
place. Does not know: the order of layers, which utterance has a slot.

S slots · B batch rows · F frames of one call · Q codebooks · V codes in a codebook · T time · C channels in ·
O channels out · K taps of a kernel, or key heads · N values of conv state · L layers of the transformer ·
R frames in its ring · E hidden size · D head size.

Channels come last, so that a convolution is one matrix product over its windows: on a CPU that is several
times as fast as the convolutions of torch, whose layout is channels first.

The leaves of torch hold the weights as they were loaded; the tables of C and of Triton (native/kernels.py,
triton/codec.py) pack these. The transformer is the layers of ``transformer.py`` between two projections, over
a ring: the position of a frame in the cache is modulo R.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig, TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.ops.torch import FUSED, TorchStack
from makima_tts.model.transformer import KeyValueCache, LayerStack, LayerWeights, RowPositions

# How many frames a call may bring: their keys are written to the ring before any of them looks back.
MAX_FRAMES = 8
# Fused attention is fastest with a mask whose rows are aligned.
_RING_MULTIPLE = 8

LAYER_NORM_EPS = 1e-6
_SNAKE_EPS = 1e-9
# Beyond it, e^alpha times a feature may overflow, and the sine of infinity is NaN. A float32 phase is
# meaningless long before.
_MAX_FREQUENCY = 1e20

# A frame is silent when no 10 ms of it reach -50 dBFS: speech lies above, a studio's room tone below.
SILENT_RMS = 10 ** (-50 / 20)
WINDOW_S = 0.01
# Symmetrical, as in audio/pcm.py: -1 and +1 are equally far from 0, and -32768 is never used.
FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class CodecState:
    """All zeros is the beginning of a stream.

    ``position``: int64 [S], frames decoded so far. ``conv_state``: [S, N], the last inputs of every
    convolution. ``keys_values``: [S, L, 2, K, R, D], rotated keys and values of the last frames; those of
    frame f are at f modulo R.
    """

    position: Tensor
    conv_state: Tensor
    keys_values: Tensor

    def reset(self, slots: Tensor) -> None:
        """``slots``: int64 [n]. Writes zeros, so that a NaN does not outlive its utterance."""
        for field in fields(self):
            getattr(self, field.name).index_fill_(0, slots, 0)

    def row(self, slot: int) -> dict[str, Tensor]:
        """A copy of one slot's state by name, on the state's device."""
        return {field.name: getattr(self, field.name)[slot].clone() for field in fields(self)}

    def put_row(self, slot: int, row: Mapping[str, Tensor]) -> None:
        """Continue in ``slot`` where ``row`` was copied; it may come from another device or precision.

        Raises ValueError when the row is of a state of other sizes.
        """
        for field in fields(self):
            source, target = row[field.name], getattr(self, field.name)[slot]
            if source.shape != target.shape:
                raise ValueError(f"{field.name} is {list(source.shape)}, but here it is {list(target.shape)}")
            target.copy_(source)


@dataclass(frozen=True, slots=True)
class CodecCall:
    """What every leaf of one call gets: the rows of the batch are ``frames`` frames each of ``slots``.

    ``slots``: int64 [B]. ``conv_state``: the rows of these slots, [B, N], or those of all, [S, N], where
    kernels index them by slot.
    """

    state: CodecState
    slots: Tensor
    frames: int
    conv_state: Tensor

    @classmethod
    def on_copy(cls, state: CodecState, slots: Tensor, frames: int) -> "CodecCall":
        """The conv state is gathered once for all leaves; ``commit`` puts it back."""
        return cls(state, slots, frames, state.conv_state.index_select(0, slots))

    @classmethod
    def in_place(cls, state: CodecState, slots: Tensor, frames: int) -> "CodecCall":
        return cls(state, slots.contiguous(), frames, state.conv_state)

    def commit(self) -> None:
        """Writes the copy back, and advances the positions."""
        self.state.conv_state.index_copy_(0, self.slots, self.conv_state)
        self.state.position.index_add_(0, self.slots, torch.full_like(self.slots, self.frames))


@dataclass(frozen=True, slots=True)
class StateRegion:
    """Where in the conv state the last ``length`` inputs of one convolution are."""

    start: int
    length: int
    channels: int

    @property
    def size(self) -> int:
        return self.length * self.channels

    def prepend(self, x: Tensor, conv_state: Tensor) -> Tensor:
        """x [B, T, C] → [B, length + T, C]; the last ``length`` of that become the state in [B, N]."""
        if self.length == 0:
            return x
        region = conv_state[:, self.start : self.start + self.size].view(len(x), self.length, self.channels)
        padded = torch.cat((region, x), dim=1)  # [B, length + T, C]
        region.copy_(padded[:, -self.length :])
        return padded


@dataclass(slots=True)
class StateLayout:
    """Assigns regions of the conv state while layers are loaded; ``size`` is N in the end."""

    size: int = 0

    def reserve(self, length: int, channels: int) -> StateRegion:
        region = StateRegion(self.size, length, channels)
        self.size += region.size
        return region


def ring_frames(config: CodecDecoderConfig) -> int:
    """R: when the last of MAX_FRAMES frames is written, the window of the first is still in the ring."""
    needed = config.sliding_window - 1 + MAX_FRAMES
    return -(-needed // _RING_MULTIPLE) * _RING_MULTIPLE


def ring_cache(state: CodecState) -> KeyValueCache:
    """A view of the state's keys and values, of all slots."""
    layers = state.keys_values.transpose(0, 1)  # [L, S, 2, K, R, D]
    return KeyValueCache(layers[:, :, 0], layers[:, :, 1])


@dataclass(frozen=True, slots=True)
class CodecTransformer:
    """The weights as they were loaded: the layers, between projections from latent features and back."""

    config: CodecDecoderConfig
    in_proj: Tensor
    in_proj_bias: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    out_proj: Tensor
    out_proj_bias: Tensor

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights) -> "CodecTransformer":
        hidden, latent = config.hidden_size, config.latent_dim
        return cls(
            config=config,
            in_proj=weights.take("input_proj.weight", hidden, latent),
            in_proj_bias=weights.take("input_proj.bias", hidden),
            layers=tuple(
                LayerWeights.load_codec(config, weights.within(f"layers.{index}"))
                for index in range(config.num_hidden_layers)
            ),
            norm=weights.take("norm.weight", hidden),
            out_proj=weights.take("output_proj.weight", latent, hidden),
            out_proj_bias=weights.take("output_proj.bias", latent),
        )


def on_stack(
    transformer: CodecTransformer,
    linear: Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]],
    make_stack: Callable[[TransformerConfig, Iterable[LayerWeights], Tensor, None], LayerStack],
) -> Callable[[Tensor, CodecCall], Tensor]:
    """The transformer with the leaves of a backend: [B, F, latent], with F ≤ MAX_FRAMES → the same.

    It does not advance the positions of the state.
    """
    config = transformer.config
    in_proj = linear(transformer.in_proj, transformer.in_proj_bias)
    out_proj = linear(transformer.out_proj, transformer.out_proj_bias)
    stack = make_stack(config, transformer.layers, transformer.norm, None)

    def run(x: Tensor, call: CodecCall) -> Tensor:
        frames = torch.arange(x.shape[1], device=x.device)
        positions = call.state.position[call.slots][:, None] + frames  # [B, F]
        at = RowPositions(positions, ring_frames(config), call.slots)
        return out_proj(stack.run(in_proj(x), at, ring_cache(call.state)))

    return run


# The features that leaves pass to each other: a tensor [B, T, C], or a table's own type.
X = TypeVar("X")
Layer = Callable[[X, CodecCall], X]


class Leaf(Protocol[X]):
    """A convolution or a matrix; ``residual`` is added to its result."""

    def __call__(self, x: X, call: CodecCall, /, residual: X | None = None) -> X: ...


@dataclass(frozen=True, slots=True)
class Snake:
    """x + sin²(x · e^alpha) / (e^beta + 1e-9), the SnakeBeta of BigVGAN (arXiv:2206.04658).

    ``frequency`` and ``amplitude``: [C]. Both are float32 and so is the sine, whatever the features are: a
    phase is a product that may be large, and bfloat16 would round most of it away.
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
class CausalConv:
    """A causal convolution after a snake. ``weight``: [rate * O, K * C], ``bias``: [rate * O].

    ``rate``: samples of output for each of input; a transposed convolution is one whose outputs are ``rate``
    samples each. ``is_residual``: the input is added to a later result.
    """

    weight: Tensor
    bias: Tensor
    kernel: int
    dilation: int
    region: StateRegion
    snake: Snake | None = None
    rate: int = 1
    is_residual: bool = False

    @classmethod
    def load(
        cls,
        weights: Weights,
        layout: StateLayout,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        dilation: int = 1,
        snake: Snake | None = None,
        is_residual: bool = False,
    ) -> "CausalConv":
        weight = weights.take_conv(inputs, outputs, kernel)
        bias = weights.take("conv.bias", outputs)
        region = layout.reserve((kernel - 1) * dilation, inputs)
        return cls(weight, bias, kernel, dilation, region, snake, 1, is_residual)

    @classmethod
    def load_transposed(
        cls,
        weights: Weights,
        layout: StateLayout,
        inputs: int,
        outputs: int,
        *,
        rate: int,
        taps: int,
        snake: Snake | None = None,
    ) -> "CausalConv":
        """A transposed convolution whose kernel is ``taps`` times its stride, ``rate``.

        That is a convolution with so many taps and ``rate`` times the channels: where the reference adds the
        overlap of neighbours, this one multiplies the previous input by its half of the kernel.
        """
        kernel = weights.take("conv.weight", inputs, outputs, taps * rate)
        latest_last = kernel.view(inputs, outputs, taps, rate).flip(2)  # [C, O, taps, rate]
        matrix = latest_last.permute(3, 1, 2, 0).reshape(rate * outputs, taps * inputs)
        bias = weights.take("conv.bias", outputs).repeat(rate)
        region = layout.reserve(taps - 1, inputs)
        return cls(matrix, bias, taps, 1, region, snake, rate)

    def __call__(self, x: Tensor, call: CodecCall, /, residual: Tensor | None = None) -> Tensor:
        """[B, T, C] → [B, T * rate, O]."""
        batch, steps, _ = x.shape
        padded = self.region.prepend(x if self.snake is None else self.snake(x), call.conv_state)
        windows = padded.unfold(1, self.region.length + 1, 1)[..., :: self.dilation]  # [B, T, C, K]
        out = F.linear(windows.transpose(2, 3).contiguous().flatten(2), self.weight, self.bias)
        out = out.view(batch, steps * self.rate, -1)
        return out if residual is None else residual + out


@dataclass(frozen=True, slots=True)
class DepthwiseConv:
    """A causal depthwise convolution and the layer norm after it. ``weight``: [C, K], the others [C]."""

    weight: Tensor
    bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    region: StateRegion

    @classmethod
    def load(cls, weights: Weights, layout: StateLayout, channels: int, kernel: int) -> "DepthwiseConv":
        return cls(
            weight=weights.take("dwconv.conv.weight", channels, 1, kernel).squeeze(1),
            bias=weights.take("dwconv.conv.bias", channels),
            norm=weights.take("norm.weight", channels),
            norm_bias=weights.take("norm.bias", channels),
            region=layout.reserve(kernel - 1, channels),
        )

    def __call__(self, x: Tensor, call: CodecCall, /) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        windows = self.region.prepend(x, call.conv_state).unfold(1, self.weight.shape[1], 1)  # [B, T, C, K]
        out = (windows * self.weight).sum(-1) + self.bias  # [B, T, C]
        return F.layer_norm(out, out.shape[-1:], self.norm, self.norm_bias, LAYER_NORM_EPS)


@dataclass(frozen=True, slots=True)
class Linear:
    """``weight``: [O, C], ``bias``: [O]. ``gelu``: applied to the result."""

    weight: Tensor
    bias: Tensor
    gelu: bool = False

    def __call__(self, x: Tensor, _call: CodecCall, /, residual: Tensor | None = None) -> Tensor:
        """[B, T, C] → [B, T, O]."""
        out = F.linear(x, self.weight, self.bias)
        out = F.gelu(out) if self.gelu else out
        return out if residual is None else residual + out


@dataclass(frozen=True, slots=True)
class Codebooks:
    """Residual vector quantization, inverted: a frame is the sum of the vectors of its codes.

    ``table``: [Q * V, C]. The reference projects the sum of the vectors; here every vector is projected at
    load.
    """

    table: Tensor
    offsets: Tensor

    def __call__(self, codes: Tensor, _call: CodecCall, /) -> Tensor:
        """[B, F, Q] → [B, F, C]."""
        return F.embedding(codes + self.offsets, self.table).sum(2)


def samples_of(conv: Leaf[Tensor]) -> Callable[[Tensor, CodecCall], Tensor]:
    """The end of a call: the last convolution's output, float32 from -1 to 1; the state is committed."""

    def samples(x: Tensor, call: CodecCall) -> Tensor:
        wave = conv(x, call).squeeze(-1).float().clamp(-1.0, 1.0)  # [B, T]
        call.commit()
        return wave

    return samples


@dataclass(frozen=True, slots=True)
class CodecOps(Generic[X]):
    """One backend's leaves: each entry packs a leaf of torch. Made for one decoder.

    The decoder calls the entries in the order in which features pass the leaves, ``samples`` last, so that a
    backend may fuse what follows a leaf into it.
    """

    begin: Callable[[CodecState, Tensor, int], CodecCall]
    embed: Callable[[Codebooks], Callable[[Tensor, CodecCall], X]]
    convolution: Callable[[CausalConv], Leaf[X]]
    depthwise: Callable[[DepthwiseConv], Layer[X]]
    linear: Callable[[Linear], Leaf[X]]
    transformer: Callable[[CodecTransformer], Layer[X]]
    samples: Callable[[CausalConv], Callable[[X, CodecCall], Tensor]]


def torch_codec_ops() -> CodecOps[Tensor]:
    """The leaves as they are loaded."""
    return CodecOps(
        begin=CodecCall.on_copy,
        embed=lambda codebooks: codebooks,
        convolution=lambda conv: conv,
        depthwise=lambda conv: conv,
        linear=lambda linear: linear,
        transformer=partial(
            on_stack,
            linear=lambda weight, bias: partial(F.linear, weight=weight, bias=bias),
            make_stack=partial(TorchStack, functions=FUSED),
        ),
        samples=samples_of,
    )


def loud_and_finite(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor]:
    """float32 [B, F * samples] → which frames are loud, and which hold numbers only: bool [B, F] each."""
    batch, total = samples.shape
    per_frame = total // frames
    windows = max(1, round(per_frame / (sample_rate_hz * WINDOW_S)))
    framed = samples.view(batch, frames, per_frame)
    usable = framed[:, :, : per_frame - per_frame % windows].reshape(batch, frames, windows, -1)
    loudest = usable.square().mean(dim=3).amax(dim=2)  # [B, F]
    return loudest >= SILENT_RMS**2, framed.isfinite().all(dim=2)


def finish(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor, Tensor]:
    """float32 [B, F * samples] from -1 to 1 → int16 of the same shape, and ``loud_and_finite``.

    Half a step is rounded to even. A frame that is not finite is silence: NaN is never cast to integers.
    """
    loud, finite = loud_and_finite(samples, frames, sample_rate_hz)
    whole = samples.view(len(samples), frames, -1).where(finite.unsqueeze(2), 0.0)
    pcm = (whole.clamp(-1.0, 1.0) * FULL_SCALE).round().to(torch.int16)
    return pcm.view_as(samples), loud, finite
