"""The codec's decoder for GPUs: few launches, and histories that stay where they are.

In: a decoder as it was loaded. Out: the same decoder, faster there; their states are the same, to be kept in
one and gone on from in the other. Does not know: who is in a slot, when to decode.

S slots · B batch rows · F frames · Q codebooks · T time · C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import structlog
import torch
from torch import Tensor

from makima_tts.model.codec import Codebooks, CodecDecoder, LayerByLayer
from makima_tts.model.codec_layers import CausalConv, FrameUpsampler, ResidualUnit, WaveBlock, WaveDecoder
from makima_tts.model.codec_state import CodecState, Past
from makima_tts.model.triton.codec_ends import CodeSums, Samples
from makima_tts.model.triton.codec_transformer import FusedTransformer
from makima_tts.model.triton.convolutions import FusedConvolution, Made, Next
from makima_tts.model.triton.measuring import replayed_ms
from makima_tts.model.triton.mixing import FusedNext
from makima_tts.model.triton.pasts import Arena, Stretch

_log = structlog.get_logger(__name__)

# What decoders are compared by: one listener, and a busy server.
_STREAMS = (1, 64)


@dataclass(frozen=True, slots=True)
class FusedUnit:
    """As ResidualUnit: the snakes are applied by who computes what they are applied to."""

    wide: FusedConvolution
    pointwise: FusedConvolution

    @classmethod
    def of(cls, unit: ResidualUnit, pace: int, following: Next, *, keeps: bool) -> "FusedUnit":
        return cls(
            FusedConvolution.of(unit.wide, pace, Next(unit.second_snake)),
            FusedConvolution.of(unit.pointwise, pace, following, keeps=keeps),
        )

    def __call__(self, x: Made, arena: Arena) -> Made:
        mixed = self.wide(x.stretch, arena).stretch
        return self.pointwise(mixed, arena, beside=x.features)


@dataclass(frozen=True, slots=True)
class FusedBlock:
    """As WaveBlock."""

    upsampling: FusedConvolution
    units: tuple[FusedUnit, ...]

    @classmethod
    def of(cls, block: WaveBlock, pace: int, following: Next) -> "FusedBlock":
        """``pace``: of what comes in."""
        nexts = [Next(unit.first_snake, _past(unit.wide)) for unit in block.units] + [following]
        risen = pace * block.upsampling.rate
        last = len(block.units) - 1
        units = (
            FusedUnit.of(unit, risen, nexts[index + 1], keeps=index < last)
            for index, unit in enumerate(block.units)
        )
        upsampling = FusedConvolution.rising(block.upsampling, pace, nexts[0], keeps=True)
        return cls(upsampling, tuple(units))

    def __call__(self, x: Stretch, arena: Arena) -> Stretch:
        made = self.upsampling(x, arena)
        for unit in self.units:
            made = unit(made, arena)
        return made.stretch


@dataclass(frozen=True, slots=True)
class FusedWave:
    """As WaveDecoder, but for its last convolution."""

    first: FusedConvolution
    blocks: tuple[FusedBlock, ...]

    @classmethod
    def of(cls, wave: WaveDecoder, pace: int) -> "FusedWave":
        nexts = [Next(block.snake, _past(block.upsampling.conv)) for block in wave.blocks]
        nexts.append(Next(wave.snake, _past(wave.last)))
        return cls(FusedConvolution.of(wave.first, pace, nexts[0]), tuple(cls._blocks(wave, pace, nexts[1:])))

    @staticmethod
    def _blocks(wave: WaveDecoder, pace: int, nexts: list[Next]) -> Iterator[FusedBlock]:
        for block, following in zip(wave.blocks, nexts, strict=True):
            yield FusedBlock.of(block, pace, following)
            pace *= block.upsampling.rate

    def __call__(self, x: Stretch, arena: Arena) -> Stretch:
        x = self.first(x, arena).stretch
        for block in self.blocks:
            x = block(x, arena)
        return x


@dataclass(frozen=True, slots=True)
class FusedUpsampler:
    """As FrameUpsampler."""

    stages: tuple[tuple[FusedConvolution, FusedNext], ...]

    @classmethod
    def of(cls, upsampler: FrameUpsampler, following: Next) -> "FusedUpsampler":
        nexts = [Next(past=_past(rise.conv)) for rise, _ in upsampler.stages[1:]] + [following]
        return cls(tuple(cls._stages(upsampler, nexts)))

    @staticmethod
    def _stages(upsampler: FrameUpsampler, nexts: list[Next]) -> Iterator[tuple[FusedConvolution, FusedNext]]:
        pace = 1
        for (rise, block), following in zip(upsampler.stages, nexts, strict=True):
            risen = pace * rise.rate
            mixing = FusedNext.of(block, risen, following)
            yield FusedConvolution.rising(rise, pace, Next(past=mixing.past)), mixing
            pace = risen

    def __call__(self, x: Stretch, arena: Arena) -> Stretch:
        for rise, mixing in self.stages:
            x = mixing(rise(x, arena).stretch, arena)
        return x


@dataclass(frozen=True, slots=True)
class FusedLayers:
    """As LayerByLayer."""

    codebooks: Codebooks
    sums: CodeSums
    pre_conv: FusedConvolution
    transformer: FusedTransformer
    upsampler: FusedUpsampler
    wave: FusedWave
    samples: Samples

    def __call__(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        """Codes that are none are read as the nearest that is one."""
        arena = Arena.of(state, slots)
        x = self.pre_conv(self.sums(codes, arena), arena).stretch
        x = self.upsampler(self.transformer(x, state, slots), arena)
        return self.samples(self.wave(x, arena), arena, state, codes.shape[1])


def fused(decoder: CodecDecoder) -> CodecDecoder:
    """``decoder``: as it was loaded."""
    layers = decoder.decoding
    if not isinstance(layers, LayerByLayer) or not isinstance(layers.wave, WaveDecoder):
        raise TypeError("this decoder is not one of torch's")
    return replace(decoder, decoding=_fused(decoder, layers, layers.wave))


def _fused(decoder: CodecDecoder, layers: LayerByLayer, wave: WaveDecoder) -> FusedLayers:
    stages = layers.upsampler.stages
    pace = 1
    for rise, _ in stages:
        pace *= rise.rate
    wave_past = Next(past=_past(wave.first))
    first = Next(past=_past(stages[0][0].conv)) if stages else wave_past
    return FusedLayers(
        codebooks=layers.codebooks,
        sums=CodeSums(layers.codebooks.table, decoder.config.num_quantizers, _past(layers.pre_conv)),
        pre_conv=FusedConvolution.of(layers.pre_conv, 1, Next()),
        transformer=FusedTransformer.of(layers.transformer, first),
        upsampler=FusedUpsampler.of(layers.upsampler, wave_past),
        wave=FusedWave.of(wave, pace),
        samples=Samples(wave.last),
    )


def _past(conv: object) -> Past:
    if not isinstance(conv, CausalConv):
        raise TypeError("this convolution is not one of torch's")
    return conv.past


def fastest_codec(candidates: Sequence[CodecDecoder]) -> CodecDecoder:
    """The one whose frames take least, of few streams and of many: what one gains there counts as a factor.

    Each is replayed in a graph, as the engine runs it. Without CUDA, and of one alone, the first.
    """
    if len(candidates) == 1 or candidates[0].decoding.codebooks.table.device.type != "cuda":
        return candidates[0]
    times_ms = [[_frame_ms(each, streams) for streams in _STREAMS] for each in candidates]
    names = [type(each.decoding).__name__ for each in candidates]
    fastest = min(range(len(candidates)), key=lambda index: prod(times_ms[index]))
    _log.info(
        "codec_chosen",
        chosen=names[fastest],
        streams=_STREAMS,
        times_ms=dict(zip(names, times_ms, strict=True)),
    )
    return candidates[fastest]


@torch.inference_mode()
def _frame_ms(decoder: CodecDecoder, streams: int) -> float:
    state = decoder.new_state(streams)
    slots = torch.arange(streams, device=state.position.device)
    codes = slots.new_zeros(streams, 1, decoder.config.num_quantizers)
    return replayed_ms(partial(decoder.decode, codes, state, slots))
