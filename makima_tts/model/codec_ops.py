"""The leaf operations of the codec's decoder: which there are, and how torch computes them.

In: features of one call, the conv state of its slots. Out: features, in the end samples; the state, advanced
in place. Does not know: codes, the order of layers.

B batch rows · F frames · Q codebooks · V codes in a codebook · T time · C channels in · O channels out ·
K taps of a kernel · N values of conv state.

Channels come last, so that a convolution is one matrix product over its windows: on a CPU that is several
times as fast as the convolutions of torch, whose layout is channels first.

The leaves of torch hold the weights as they were loaded; the tables of C and of Triton (native/kernels.py,
triton/codec.py) pack these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_state import CodecCall, CodecState, StateLayout, StateRegion
from makima_tts.model.codec_transformer import CodecTransformer, on_stack
from makima_tts.model.ops.torch import FUSED, TorchStack

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
