"""The codec's transformer: every frame looks back over a short window of frames, in a ring cache.

In: weights; features of the frames of one call, the state of all slots. Out: features; the rings, written in
place. Does not know: codes, sound, how a leaf computes.

S slots · B batch rows · F frames of one call · E hidden size · R frames in the ring.

It is the layers of ``transformer.py``, between two projections; the position of a frame in the cache is
modulo R.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig, TransformerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_state import CodecCall, CodecState
from makima_tts.model.transformer import KeyValueCache, LayerStack, LayerWeights, RowPositions

# How many frames a call may bring: their keys are written to the ring before any of them looks back.
MAX_FRAMES = 8
# Fused attention is fastest with a mask whose rows are aligned.
_RING_MULTIPLE = 8


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
