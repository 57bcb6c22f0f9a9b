"""The speaker encoder: reference audio becomes an x-vector, how a speaker sounds whatever the words are.

In: a clip at 24 kHz. Out: one vector, in slices of work. Does not know: where clips come from, which
utterances run meanwhile.

T spectrogram frames · N samples in a window · B mel bands · C channels in · O channels out · K taps of a
kernel · A attention channels · X size of the x-vector.

An ECAPA-TDNN (arXiv:2005.07143) over a mel spectrogram, in parity with ``Qwen3TTSSpeakerEncoder`` and
``mel_spectrogram`` of ``qwen-tts`` 0.1.1. The spectrogram's numbers are those that its
``extract_speaker_embedding`` passes; they are in no configuration file. Squeeze-excitation and pooling look
at all of the clip, so the work of every layer is cut into slices, not the clip. It is computed in float32
whatever the model's precision is.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.errors import InvalidClip
from makima_tts.model.checkpoint.config import SpeakerEncoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.reference_audio import RATE_HZ, SliceBudget

Work = Generator[None, None, Tensor]

# About 10 ms on two CPU cores.
_MULTIPLY_ADDS_PER_SLICE = 500_000_000
# What it costs to read and write one value several times, in multiply-adds.
_WORK_PER_VALUE = 250
_MIN_VARIANCE = 1e-12
_POOLED_AT_ONCE = 64

WINDOW_SAMPLES = 1024
HOP_SAMPLES = 256
_EDGE_SAMPLES = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
_MIN_POWER = 1e-9
_MIN_ENERGY = 1e-5

# Slaney's Auditory Toolbox (1998): even steps up to 1 kHz, equal ratios from there on.
_HZ_PER_MEL = 200.0 / 3
_BEND_HZ = 1000.0
_BEND_MEL = _BEND_HZ / _HZ_PER_MEL
_LOG_PER_MEL = log(6.4) / 27
_HIGHEST_MEL = _BEND_MEL + log(12_000.0 / _BEND_HZ) / _LOG_PER_MEL

# Multiply-adds that a spectrogram frame takes, the transform's among them.
_WORK_PER_FRAME = 200_000


@dataclass(frozen=True, slots=True)
class MelSpectrogram:
    """``window``: [N]. ``filters``: [N / 2 + 1, B]."""

    window: Tensor = field(repr=False)
    filters: Tensor = field(repr=False)

    @classmethod
    def of(cls, bands: int, device: torch.device) -> "MelSpectrogram":
        window = torch.hann_window(WINDOW_SAMPLES, device=device)
        return cls(window, torch.from_numpy(mel_filters(bands)).to(device).T)

    def __call__(self, pcm: Tensor, budget: SliceBudget) -> Work:
        """float32 [samples] → float32 [T, B], with one frame for every whole 256 samples.

        Needs more than 384 samples, which are reflected at both ends.
        """
        padded = reflect_pad(pcm, _EDGE_SAMPLES, _EDGE_SAMPLES)
        frames = padded.unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)  # [T, N]
        energies = []
        for rows in torch.split(frames, budget.rows(_WORK_PER_FRAME)):
            energies.append(self._log_energies(rows))
            if budget.spend(len(rows) * _WORK_PER_FRAME):
                yield
        return torch.cat(energies)

    def _log_energies(self, frames: Tensor) -> Tensor:
        """[T, N] → [T, B]."""
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window))  # [T, N / 2 + 1, 2]
        magnitude = (spectrum.square().sum(-1) + _MIN_POWER).sqrt()  # [T, N / 2 + 1]
        return (magnitude @ self.filters).clamp(min=_MIN_ENERGY).log()


def reflect_pad(x: Tensor, before: int, after: int) -> Tensor:
    """[T, …] → [before + T + after, …]: the ends are reflected, their outermost value not repeated.

    T must be larger than either.
    """
    if not before and not after:
        return x
    return torch.cat((x[1 : before + 1].flip(0), x, x[len(x) - 1 - after : len(x) - 1].flip(0)))


def mel_filters(bands: int) -> npt.NDArray[np.float32]:
    """Triangles of equal area between 0 Hz and 12 kHz: float32 [B, N / 2 + 1].

    Those of ``librosa.filters.mel`` with its defaults (Slaney's scale, Slaney's norm), to the last bit.
    """
    edges = _hz_of(np.linspace(0.0, _HIGHEST_MEL, bands + 2))
    distances = edges[:, None] - np.fft.rfftfreq(WINDOW_SAMPLES, 1 / RATE_HZ)  # [B + 2, N / 2 + 1]
    widths = np.diff(edges)[:, None]
    rising, falling = -distances[:-2] / widths[:-1], distances[2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    areas = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * areas[:, None]).astype(np.float32)


def _hz_of(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    high = _BEND_HZ * np.exp(_LOG_PER_MEL * (mels - _BEND_MEL))
    return np.where(mels < _BEND_MEL, mels * _HZ_PER_MEL, high)


@dataclass(frozen=True, slots=True)
class TimeDelay:
    """A convolution that keeps the length, reflection at the ends, then a ReLU. ``weight``: [O, K * C]."""

    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    kernel: int
    dilation: int

    @classmethod
    def load(
        cls, weights: Weights, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1
    ) -> "TimeDelay":
        weight = weights.take_conv(inputs, outputs, kernel)
        return cls(weight, weights.take("conv.bias", outputs), kernel, dilation)

    @property
    def reach(self) -> int:
        """Frames from the first tap to the last."""
        return (self.kernel - 1) * self.dilation

    @property
    def min_frames(self) -> int:
        """Reflection needs more frames than it adds to an end."""
        return self.reach - self.reach // 2 + 1

    def __call__(self, groups: Sequence[Tensor], budget: SliceBudget) -> Work:
        """Channels in several tensors, [T, c] each, C together → [T, O].

        They are joined slice by slice: all at once would exceed a slice when the clip is long.
        """
        before = self.reach // 2
        padded = [reflect_pad(group, before, self.reach - before) for group in groups]  # [T + reach, c]
        out = groups[0].new_empty(len(groups[0]), len(self.weight))  # [T, O]
        rows = budget.rows(self.weight.numel())
        for start in range(0, len(out), rows):
            joined = torch.cat([group[start : start + rows + self.reach] for group in padded], dim=1)
            windows = joined.unfold(0, self.reach + 1, 1)[..., :: self.dilation]  # [T', C, K]
            taps = windows.transpose(1, 2).flatten(1)  # [T', K * C]
            out[start : start + rows] = F.linear(taps, self.weight, self.bias).relu_()
            if budget.spend(len(taps) * self.weight.numel()):
                yield
        return out


@dataclass(frozen=True, slots=True)
class Res2Net:
    """Groups of channels: each but the first is convolved, together with the result of the group before."""

    convs: tuple[TimeDelay, ...]

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

    def __call__(self, x: Tensor, budget: SliceBudget) -> Work:
        """[T, C] → [T, C]."""
        first, *others = x.chunk(len(self.convs) + 1, dim=1)
        results = [first]
        for index, (conv, group) in enumerate(zip(self.convs, others, strict=True)):
            results.append((yield from conv([group + results[-1] if index else group], budget)))
        return torch.cat(results, dim=1)


@dataclass(frozen=True, slots=True)
class SqueezeExcitation:
    """Every channel is scaled by a function of all channels' means (arXiv:1709.01507)."""

    squeeze: Tensor
    squeeze_bias: Tensor
    excite: Tensor
    excite_bias: Tensor

    @classmethod
    def load(cls, weights: Weights, channels: int, inner: int) -> "SqueezeExcitation":
        return cls(
            weights.take("conv1.weight", inner, channels, 1).squeeze(2),
            weights.take("conv1.bias", inner),
            weights.take("conv2.weight", channels, inner, 1).squeeze(2),
            weights.take("conv2.bias", channels),
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[T, C] → [T, C]."""
        squeezed = F.linear(x.mean(0), self.squeeze, self.squeeze_bias).relu()
        return x * F.linear(squeezed, self.excite, self.excite_bias).sigmoid()


@dataclass(frozen=True, slots=True)
class SqueezeExcitationBlock:
    """Pointwise, Res2Net, pointwise, squeeze-excitation; a residual around them."""

    first: TimeDelay
    res2net: Res2Net
    last: TimeDelay
    excitation: SqueezeExcitation

    @classmethod
    def load(cls, config: SpeakerEncoderConfig, weights: Weights, index: int) -> "SqueezeExcitationBlock":
        inputs, channels = config.enc_channels[index - 1 : index + 1]
        kernel, dilation = config.enc_kernel_sizes[index], config.enc_dilations[index]
        return cls(
            TimeDelay.load(weights.within("tdnn1"), inputs, channels),
            Res2Net.load(config, weights.within("res2net_block"), channels, kernel, dilation),
            TimeDelay.load(weights.within("tdnn2"), channels, channels),
            SqueezeExcitation.load(weights.within("se_block"), channels, config.enc_se_channels),
        )

    def __call__(self, x: Tensor, budget: SliceBudget) -> Work:
        """[T, C] → [T, C]."""
        features = yield from self.first([x], budget)
        features = yield from self.res2net(features, budget)
        features = yield from self.last([features], budget)
        if budget.spend(features.numel() * _WORK_PER_VALUE):
            yield
        return self.excitation(features) + x


@dataclass(frozen=True, slots=True)
class AttentivePooling:
    """Weighted mean and deviation of every channel over the frames.

    ``shared``: [A, 2 * C], the columns of ``tdnn`` for the channels' plain mean and deviation, which
    are the same for every frame.
    """

    tdnn: TimeDelay
    shared: Tensor
    scores: Tensor
    scores_bias: Tensor

    @classmethod
    def load(cls, weights: Weights, channels: int, inner: int) -> "AttentivePooling":
        whole = TimeDelay.load(weights.within("tdnn"), 3 * channels, inner)
        own, shared = whole.weight[:, :channels], whole.weight[:, channels:]
        return cls(
            TimeDelay(own.contiguous(), whole.bias, 1, 1),
            shared,
            weights.take("conv.weight", channels, inner, 1).squeeze(2),
            weights.take("conv.bias", channels),
        )

    def __call__(self, x: Tensor, budget: SliceBudget) -> Work:
        """[T, C] → [2 * C]."""
        even = x.new_full((1, 1), 1 / len(x))
        plain = yield from self._pooled(x, lambda _channels: even, budget)
        tdnn = TimeDelay(self.tdnn.weight, self.tdnn.bias + self.shared @ plain, 1, 1)
        hidden = (yield from tdnn([x], budget)).tanh()  # [T, A]

        def attention(channels: slice) -> Tensor:
            return F.linear(hidden, self.scores[channels], self.scores_bias[channels]).softmax(0)

        return (yield from self._pooled(x, attention, budget))

    def _pooled(self, x: Tensor, weights_of: Callable[[slice], Tensor], budget: SliceBudget) -> Work:
        """[T, C], and weights [T, c] of some channels → their means, then their deviations: [2 * C]."""
        means, deviations = [], []
        for start in range(0, x.shape[1], _POOLED_AT_ONCE):
            channels = slice(start, start + _POOLED_AT_ONCE)
            values, weights = x[:, channels], weights_of(channels)  # [T, c]
            mean = (weights * values).sum(0)
            variance = (weights * (values - mean).square()).sum(0)
            means.append(mean)
            deviations.append(variance.clamp(min=_MIN_VARIANCE).sqrt())
            if budget.spend(values.numel() * _WORK_PER_VALUE):
                yield
        return torch.cat([*means, *deviations])


@dataclass(frozen=True, slots=True)
class SpeakerEncoder:
    """``min_samples``: the shortest clip. ``work_per_slice``: multiply-adds between two yields."""

    mel: MelSpectrogram
    first: TimeDelay
    blocks: tuple[SqueezeExcitationBlock, ...]
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
            SqueezeExcitationBlock.load(config, exact.within(f"blocks.{index}"), index)
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
    def min_samples(self) -> int:
        """Samples and frames are reflected at their ends, and must be more than that adds."""
        convs = (self.first, self.joined, *(group for block in self.blocks for group in block.res2net.convs))
        frames = max(conv.min_frames for conv in convs)
        return max(frames * HOP_SAMPLES, (WINDOW_SAMPLES - HOP_SAMPLES) // 2 + 1)

    def embed(self, pcm: Tensor) -> Work:
        """float32 [samples] at 24 kHz → x-vector float32 [X].

        Yields between slices of work. Raises InvalidClip for less than ``min_samples``, 53 ms at the
        published sizes.
        """
        if len(pcm) < self.min_samples:
            raise InvalidClip("The reference audio is too short to hear a voice in it. Send 3 s or more.")
        budget = SliceBudget(self.work_per_slice)
        x = yield from self.mel(pcm.to(self.device, torch.float32), budget)  # [T, bands]
        x = yield from self.first([x], budget)
        outputs = []
        for block in self.blocks:
            x = yield from block(x, budget)
            outputs.append(x)
        x = yield from self.joined(outputs, budget)
        pooled = yield from self.pooling(x, budget)  # [2 * C]
        return F.linear(pooled, self.last, self.last_bias)  # [X]
