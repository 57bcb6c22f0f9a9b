"""The codec's decoder: codes become sound, frame by frame, exactly as if all of them had come at once.

In: codes of the next frames of some slots, the state of all slots. Out: their samples; the state of these
slots, advanced in place. Does not know: who speaks in a slot, when to decode, sample formats.

S slots · B batch rows · F frames · Q codebooks · V codes in a codebook · T time · C channels.
The decoder is causal without look-ahead: convolutions keep their last inputs, the transformer its last keys
and values (codec_state.py), and nothing is computed twice.
"""

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_layers import CausalConv, Convolution, FrameUpsampler, WaveDecoder
from makima_tts.model.codec_state import CodecState, HistoryPlan
from makima_tts.model.codec_transformer import MAX_FRAMES, CodecTransformer, FrameTransformer, ring_frames

__all__ = ["CodecDecoder", "CodecState"]

_CLUSTER_EPS = 1e-5
_PRE_CONV_KERNEL = 3


@dataclass(frozen=True, slots=True)
class Codebooks:
    """Residual vector quantization, undone: a frame is the sum of what its codes stand for.

    ``table``: [Q * V, C]. The reference projects the sum of the looked-up vectors; here every vector was
    projected once, at load.
    """

    table: Tensor
    offsets: Tensor

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights) -> "Codebooks":
        rest = config.num_quantizers - 1
        halves = (_projected(config, weights, "rvq_first", 1), _projected(config, weights, "rvq_rest", rest))
        offsets = torch.arange(config.num_quantizers, device=weights.device) * config.codebook_size
        return cls(torch.cat(halves).to(weights.dtype), offsets)

    def __call__(self, codes: Tensor) -> Tensor:
        """[B, F, Q] → [B, F, C]."""
        return F.embedding(codes + self.offsets, self.table).sum(2)


def _projected(config: CodecDecoderConfig, weights: Weights, half: str, codebooks: int) -> Tensor:
    """The vectors of one half's codebooks, as its projection maps them: float32 [codebooks * V, C]."""
    outer, inner, size = config.codebook_dim, config.codebook_dim // 2, config.codebook_size
    exact = weights.within(half).as_dtype(torch.float32)
    projection = exact.take("output_proj.weight", outer, inner, 1).squeeze(2)  # [C, inner]
    vectors = []
    for index in range(codebooks):
        codebook = exact.within(f"vq.layers.{index}._codebook")
        usage = codebook.take("cluster_usage", size).clamp(min=_CLUSTER_EPS)
        vectors.append(codebook.take("embedding_sum", size, inner) / usage[:, None])  # [V, inner]
    return torch.cat(vectors) @ projection.T


class Decoding(Protocol):
    """All that is computed between codes and samples, however it is."""

    @property
    def codebooks(self) -> Codebooks: ...

    def __call__(self, codes: Tensor, state: CodecState, slots: Tensor, /) -> Tensor:
        """[B, F, Q] with F ≤ MAX_FRAMES → float32 [B, F * frame_samples]; advances these slots."""


@dataclass(frozen=True, slots=True)
class LayerByLayer:
    """One after the other, on a copy of the histories: they are gathered once, and put back once."""

    codebooks: Codebooks
    pre_conv: Convolution
    transformer: FrameTransformer
    upsampler: FrameUpsampler
    wave: Convolution

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights, plan: HistoryPlan) -> "LayerByLayer":
        pre_conv = weights.within("pre_conv")
        return cls(
            codebooks=Codebooks.load(config, weights.within("quantizer")),
            pre_conv=CausalConv.load(
                pre_conv, plan, config.codebook_dim, config.latent_dim, kernel=_PRE_CONV_KERNEL
            ),
            transformer=CodecTransformer.load(config, weights.within("pre_transformer")),
            upsampler=FrameUpsampler.load(config, weights.within("upsample"), plan),
            wave=WaveDecoder.load(config, weights.within("decoder"), plan),
        )

    def __call__(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        history = state.history.index_select(0, slots)  # [B, N]
        x = self.pre_conv(self.codebooks(codes), history)  # [B, F, C]
        x = self.transformer(x, state, slots)
        x = self.upsampler(x, history)  # [B, T, C]
        samples = self.wave(x, history)  # [B, F * frame_samples]
        state.history.index_copy_(0, slots, history)
        state.position.index_add_(0, slots, torch.full_like(slots, codes.shape[1]))
        return samples


@dataclass(frozen=True, slots=True)
class CodecDecoder:
    """All of it. ``history_size``: N of the state that it needs."""

    config: CodecDecoderConfig
    decoding: Decoding
    history_size: int

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights) -> "CodecDecoder":
        """``weights``: what lies below ``decoder.`` in the codec's file."""
        plan = HistoryPlan()
        decoding = LayerByLayer.load(config, weights, plan)
        return cls(config, decoding, plan.size)

    @property
    def frame_samples(self) -> int:
        return prod(self.config.upsampling_ratios) * prod(self.config.upsample_rates)

    def new_state(self, slots: int) -> CodecState:
        """An arena, all slots at the beginning of sound; device and precision are those of the weights."""
        config, weight = self.config, self.decoding.codebooks.table
        ring = (2, config.num_key_value_heads, ring_frames(config), config.head_size)
        return CodecState(
            position=torch.zeros(slots, dtype=torch.int64, device=weight.device),
            history=weight.new_zeros(slots, self.history_size),
            keys_values=weight.new_zeros(slots, config.num_hidden_layers, *ring),
        )

    def decode(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        """The next F ≥ 1 frames of distinct slots.

        ``codes``: int64 [B, F, Q] from 0 to codebook_size - 1, ``slots``: int64 [B] → float32
        [B, F * frame_samples] from -1 to 1. Many frames are decoded in turns, so that what a call needs to
        compute with is bounded.
        """
        turns = [self.decoding(turn, state, slots) for turn in torch.split(codes, MAX_FRAMES, dim=1)]
        return turns[0] if len(turns) == 1 else torch.cat(turns, dim=1)
