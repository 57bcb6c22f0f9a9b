"""Sound becomes an x-vector: how somebody sounds, whatever is said.

In: a clip of 24 kHz. Out: one vector, in slices of work. Does not know: where clips come from, who speaks
meanwhile.

T spectrogram frames · C channels in · O channels out · K taps of a kernel · A attention channels · X size of
the x-vector.

An ECAPA-TDNN (arXiv:2005.07143), in parity with ``Qwen3TTSSpeakerEncoder`` of ``qwen-tts`` 0.1.1. Its gates
and its pooling look at all of the clip, so it is not the clip that is cut into slices but the work of every
layer. It is computed in float32 whatever the model is.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.errors import InvalidClip
from makima_tts.model.checkpoint.config import SpeakerEncoderConfig
from makima_tts.model.checkpoint.weights import Weights
from makima_tts.model.mel_spectrogram import HOP_SAMPLES, WINDOW_SAMPLES, MelSpectrogram, mirrored
from makima_tts.model.pace import Pace

Work = Generator[None, None, Tensor]

# About 10 ms on two CPU cores.
_MULTIPLY_ADDS_PER_SLICE = 500_000_000
# What it costs to read and write one value several times, in multiply-adds.
_WORK_PER_VALUE = 250
_LEAST_VARIANCE = 1e-12
_POOLED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class TimeDelay:
    """A convolution that keeps the length, the ends mirrored, and a ReLU. ``weight``: [O, K * C]."""

    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    kernel: int
    dilation: int

    @classmethod
    def load(
        cls, weights: Weights, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1
    ) -> "TimeDelay":
        weight = weights.take("conv.weight", outputs, inputs, kernel)
        matrix = weight.transpose(1, 2).reshape(outputs, -1)  # [O, K * C]
        return cls(matrix, weights.take("conv.bias", outputs), kernel, dilation)

    @property
    def reach(self) -> int:
        """Frames from the first tap to the last."""
        return (self.kernel - 1) * self.dilation

    @property
    def least_frames(self) -> int:
        """Mirroring needs more frames than it adds to an end."""
        return self.reach - self.reach // 2 + 1

    def __call__(self, parts: Sequence[Tensor], pace: Pace) -> Work:
        """Of channels in several parts, [T, c] each, C together → [T, O].

        They are joined slice by slice: all at once would be a slice of its own when the clip is long.
        """
        before = self.reach // 2
        longer = [mirrored(part, before, self.reach - before) for part in parts]  # [T + reach, c]
        out = parts[0].new_empty(len(parts[0]), len(self.weight))  # [T, O]
        rows = pace.rows(self.weight.numel())
        for start in range(0, len(out), rows):
            seen = torch.cat([part[start : start + rows + self.reach] for part in longer], dim=1)
            windows = seen.unfold(0, self.reach + 1, 1)[..., :: self.dilation]  # [T', C, K]
            taps = windows.transpose(1, 2).flatten(1)  # [T', K * C]
            out[start : start + rows] = F.linear(taps, self.weight, self.bias).relu_()
            if pace.full(len(taps) * self.weight.numel()):
                yield
        return out


@dataclass(frozen=True, slots=True)
class Res2Net:
    """Groups of channels: each but the first is convolved, together with what its predecessor came to."""

    groups: tuple[TimeDelay, ...]

    @classmethod
    def load(
        cls, config: SpeakerEncoderConfig, weights: Weights, channels: int, kernel: int, dilation: int
    ) -> "Res2Net":
        width = channels // config.enc_res2net_scale
        return cls(
            tuple(
                TimeDelay.load(weights.within(f"blocks.{index}"), width, width, kernel, dilation)
                for index in range(config.enc_res2net_scale - 1)
            )
        )

    def __call__(self, x: Tensor, pace: Pace) -> Work:
        """[T, C] → [T, C]."""
        first, *others = x.chunk(len(self.groups) + 1, dim=1)
        parts = [first]
        for index, (group, part) in enumerate(zip(self.groups, others, strict=True)):
            parts.append((yield from group([part + parts[-1] if index else part], pace)))
        return torch.cat(parts, dim=1)


@dataclass(frozen=True, slots=True)
class Gate:
    """Squeeze and excitation: every channel is weighed by what all channels are on average."""

    squeeze: Tensor
    squeeze_bias: Tensor
    excite: Tensor
    excite_bias: Tensor

    @classmethod
    def load(cls, weights: Weights, channels: int, narrow: int) -> "Gate":
        return cls(
            weights.take("conv1.weight", narrow, channels, 1).squeeze(2),
            weights.take("conv1.bias", narrow),
            weights.take("conv2.weight", channels, narrow, 1).squeeze(2),
            weights.take("conv2.bias", channels),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[T, C] → [T, C]."""
        squeezed = F.linear(x.mean(0), self.squeeze, self.squeeze_bias).relu()
        return x * F.linear(squeezed, self.excite, self.excite_bias).sigmoid()


@dataclass(frozen=True, slots=True)
class Block:
    """Pointwise, Res2Net, pointwise, gate, beside the features."""

    first: TimeDelay
    middle: Res2Net
    last: TimeDelay
    gate: Gate

    @classmethod
    def load(cls, config: SpeakerEncoderConfig, weights: Weights, index: int) -> "Block":
        inputs, channels = config.enc_channels[index - 1 : index + 1]
        kernel, dilation = config.enc_kernel_sizes[index], config.enc_dilations[index]
        return cls(
            TimeDelay.load(weights.within("tdnn1"), inputs, channels),
            Res2Net.load(config, weights.within("res2net_block"), channels, kernel, dilation),
            TimeDelay.load(weights.within("tdnn2"), channels, channels),
            Gate.load(weights.within("se_block"), channels, config.enc_se_channels),
        )

    def __call__(self, x: Tensor, pace: Pace) -> Work:
        """[T, C] → [T, C]."""
        mixed = yield from self.first([x], pace)
        mixed = yield from self.middle(mixed, pace)
        mixed = yield from self.last([mixed], pace)
        if pace.full(mixed.numel() * _WORK_PER_VALUE):
            yield
        return self.gate(mixed) + x


@dataclass(frozen=True, slots=True)
class AttentivePooling:
    """Mean and deviation of every channel over the frames that it attends to.

    ``shared``: [A, 2 * C], the part of ``tdnn`` that sees the channels' plain mean and deviation, which are
    the same for every frame.
    """

    tdnn: TimeDelay
    shared: Tensor
    scores: Tensor
    scores_bias: Tensor

    @classmethod
    def load(cls, weights: Weights, channels: int, narrow: int) -> "AttentivePooling":
        whole = TimeDelay.load(weights.within("tdnn"), 3 * channels, narrow)
        own, shared = whole.weight[:, :channels], whole.weight[:, channels:]
        return cls(
            TimeDelay(own.contiguous(), whole.bias, 1, 1),
            shared,
            weights.take("conv.weight", channels, narrow, 1).squeeze(2),
            weights.take("conv.bias", channels),
        )

    def __call__(self, x: Tensor, pace: Pace) -> Work:
        """[T, C] → [2 * C]."""
        even = x.new_full((1, 1), 1 / len(x))
        plain = yield from self._pooled(x, lambda _channels: even, pace)
        tdnn = TimeDelay(self.tdnn.weight, self.tdnn.bias + self.shared @ plain, 1, 1)
        hidden = (yield from tdnn([x], pace)).tanh()  # [T, A]

        def attention(channels: slice) -> Tensor:
            return F.linear(hidden, self.scores[channels], self.scores_bias[channels]).softmax(0)

        return (yield from self._pooled(x, attention, pace))

    def _pooled(self, x: Tensor, weights_of: Callable[[slice], Tensor], pace: Pace) -> Work:
        """[T, C], and weights [T, c] of some channels → their means, then their deviations: [2 * C]."""
        means, deviations = [], []
        for start in range(0, x.shape[1], _POOLED_AT_ONCE):
            channels = slice(start, start + _POOLED_AT_ONCE)
            values, weights = x[:, channels], weights_of(channels)  # [T, c]
            mean = (weights * values).sum(0)
            variance = (weights * (values - mean).square()).sum(0)
            means.append(mean)
            deviations.append(variance.clamp(min=_LEAST_VARIANCE).sqrt())
            if pace.full(values.numel() * _WORK_PER_VALUE):
                yield
        return torch.cat([*means, *deviations])


@dataclass(frozen=True, slots=True)
class SpeakerEncoder:
    """``least_samples``: what a clip must hold. ``work_per_slice``: multiply-adds between two yields."""

    mel: MelSpectrogram
    first: TimeDelay
    blocks: tuple[Block, ...]
    joined: TimeDelay
    pooling: AttentivePooling
    last: Tensor
    last_bias: Tensor
    device: torch.device
    work_per_slice: int = _MULTIPLY_ADDS_PER_SLICE

    @classmethod
    def load(cls, config: SpeakerEncoderConfig, weights: Weights) -> "SpeakerEncoder":
        """Raises TtsUnavailable for tensors of other shapes."""
        exact, channels = weights.as_dtype(torch.float32), config.enc_channels
        kernels, dilations = config.enc_kernel_sizes, config.enc_dilations
        blocks = (
            Block.load(config, exact.within(f"blocks.{index}"), index)
            for index in range(1, len(channels) - 1)
        )
        return cls(
            mel=MelSpectrogram.of(config.mel_dim, weights.device),
            first=TimeDelay.load(
                exact.within("blocks.0"), config.mel_dim, channels[0], kernels[0], dilations[0]
            ),
            blocks=tuple(blocks),
            joined=TimeDelay.load(
                exact.within("mfa"), sum(channels[1:-1]), channels[-1], kernels[-1], dilations[-1]
            ),
            pooling=AttentivePooling.load(exact.within("asp"), channels[-1], config.enc_attention_channels),
            last=exact.take("fc.weight", config.enc_dim, 2 * channels[-1], 1).squeeze(2),
            last_bias=exact.take("fc.bias", config.enc_dim),
            device=weights.device,
        )

    @property
    def least_samples(self) -> int:
        """Both the samples and the frames are mirrored at their ends, and need to be more than that adds."""
        convs = (self.first, self.joined, *(group for block in self.blocks for group in block.middle.groups))
        frames = max(conv.least_frames for conv in convs)
        return max(frames * HOP_SAMPLES, (WINDOW_SAMPLES - HOP_SAMPLES) // 2 + 1)

    def embed(self, pcm: Tensor) -> Work:
        """float32 [samples] at 24 kHz → x-vector float32 [X].

        Yields between slices of work. Raises InvalidClip for less than ``least_samples``, 53 ms at the
        published sizes.
        """
        if len(pcm) < self.least_samples:
            raise InvalidClip("The reference audio is too short to hear a voice in it. Send 3 s or more.")
        pace = Pace(self.work_per_slice)
        x = yield from self.mel(pcm.to(self.device, torch.float32), pace)  # [T, bands]
        x = yield from self.first([x], pace)
        outputs = []
        for block in self.blocks:
            x = yield from block(x, pace)
            outputs.append(x)
        x = yield from self.joined(outputs, pace)
        pooled = yield from self.pooling(x, pace)  # [2 * C]
        return F.linear(pooled, self.last, self.last_bias)  # [X]
