"""The codec's transformer: every frame looks back over a short window of frames, kept in a ring.

In: features of the frames of one call, the state of all slots, which slots these are. Out: features; the
rings, written in place. Does not know: codes, sound.

S slots · B batch rows · F frames of one call · E hidden size · H query heads · K key heads · D head size ·
R frames in the ring.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec_state import CodecState
from makima_tts.model.transformer import ACTIVATIONS

# How many frames a call may bring: their keys are written to the ring before any of them looks back.
MAX_FRAMES = 8
# Fused attention is at its best with a mask whose rows are aligned.
_RING_MULTIPLE = 8


def ring_frames(config: CodecDecoderConfig) -> int:
    """R: what the first of MAX_FRAMES frames may look at is still there when the last has been written."""
    needed = config.sliding_window - 1 + MAX_FRAMES
    return -(-needed // _RING_MULTIPLE) * _RING_MULTIPLE


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in its stream each row is: what all layers share.

    ``places``: int64 [B, F], where in the ring the frames go. ``mask``: bool [B, 1, F, R], which entries a
    frame may look at. ``cos``, ``sin``: float32 [B, F, 1, D].
    """

    slots: Tensor
    places: Tensor
    mask: Tensor
    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, config: CodecDecoderConfig, start: Tensor, slots: Tensor, frames: int) -> "Moment":
        """``start``: int64 [B], the position of the first of the frames."""
        ring = torch.arange(ring_frames(config), device=start.device)
        here = start[:, None] + torch.arange(frames, device=start.device)  # [B, F]
        last = here[:, -1:]
        held = last - (last - ring) % len(ring)  # [B, R]: the latest frame that an entry is of
        age = here[:, :, None] - held[:, None, :]  # [B, F, R]
        mask = (held[:, None, :] >= 0) & (age >= 0) & (age < config.sliding_window)
        return cls(slots, here % len(ring), mask.unsqueeze(1), *_rotation(config, here))

    def turn(self, heads: Tensor) -> Tensor:
        """[B, F, heads, D] → the same, rotated; in float32, because bfloat16 angles are coarse."""
        return (heads * self.cos + heads.roll(heads.shape[-1] // 2, -1) * self.sin).to(heads.dtype)


def _rotation(config: CodecDecoderConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Rotary embedding, rotate-half form (arXiv:2104.09864): int64 [B, F] → cos, signed sin [B, F, 1, D].

    Computed anew each time: a stream has no last position, so there is no table of them. The sign that
    rotate-half gives to the first half is in the sine.
    """
    size = config.head_size
    exponents = torch.arange(0, size, 2, device=positions.device).float() / size
    angles = positions[..., None].float() / config.rope_theta**exponents  # [B, F, D / 2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).unsqueeze(2), torch.cat((-sin, sin), -1).unsqueeze(2)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. Matrices over the same input are joined; layer scales are part of ``out`` and ``down``."""

    input_norm: Tensor
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights) -> "Layer":
        hidden, inner = config.hidden_size, config.intermediate_size
        queries = config.num_attention_heads * config.head_size
        keys = config.num_key_value_heads * config.head_size
        attention, mlp = weights.within("self_attn"), weights.within("mlp")
        qkv = [
            attention.take(f"{of}_proj.weight", size, hidden)
            for of, size in zip("qkv", (queries, keys, keys), strict=True)
        ]
        gate_up = [mlp.take(f"{of}_proj.weight", inner, hidden) for of in ("gate", "up")]
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            qkv=torch.cat(qkv),
            out=_scaled(weights, "self_attn_layer_scale", "self_attn.o_proj", hidden, queries),
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=torch.cat(gate_up),
            down=_scaled(weights, "mlp_layer_scale", "mlp.down_proj", hidden, inner),
        )


def _scaled(weights: Weights, scale: str, matrix: str, outputs: int, inputs: int) -> Tensor:
    """The matrix with the layer scale of its outputs, multiplied before they are rounded."""
    exact = weights.as_dtype(torch.float32)
    scaled = exact.take(f"{matrix}.weight", outputs, inputs) * exact.take(f"{scale}.scale", outputs)[:, None]
    return scaled.to(weights.dtype)


@dataclass(frozen=True, slots=True)
class CodecTransformer:
    """The layers, between two projections: from latent features and back."""

    config: CodecDecoderConfig
    inward: Tensor
    inward_bias: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    outward: Tensor
    outward_bias: Tensor

    @classmethod
    def load(cls, config: CodecDecoderConfig, weights: Weights) -> "CodecTransformer":
        hidden, latent = config.hidden_size, config.latent_dim
        return cls(
            config=config,
            inward=weights.take("input_proj.weight", hidden, latent),
            inward_bias=weights.take("input_proj.bias", hidden),
            layers=tuple(
                Layer.load(config, weights.within(f"layers.{index}"))
                for index in range(config.num_hidden_layers)
            ),
            norm=weights.take("norm.weight", hidden),
            outward=weights.take("output_proj.weight", latent, hidden),
            outward_bias=weights.take("output_proj.bias", latent),
        )

    def __call__(self, x: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        moment = Moment.at(self.config, state.position[slots], slots, x.shape[1])
        x = F.linear(x, self.inward, self.inward_bias)  # [B, F, E]
        for index, layer in enumerate(self.layers):
            x = x + self._attention(layer, x, state.keys_values[:, index], moment)
            x = x + self._mlp(layer, x)
        return F.linear(self._norm(x, self.norm), self.outward, self.outward_bias)  # [B, F, latent]

    def _attention(self, layer: Layer, x: Tensor, rings: Tensor, moment: Moment) -> Tensor:
        """``rings``: [S, 2, K, R, D], written where these frames are."""
        config, (batch, frames, _) = self.config, x.shape
        fused = F.linear(self._norm(x, layer.input_norm), layer.qkv)
        heads = fused.view(batch, frames, -1, config.head_size)  # [B, F, H + 2 * K, D]
        turned, values = heads.tensor_split((heads.shape[2] - config.num_key_value_heads,), dim=2)
        queries, keys = moment.turn(turned).tensor_split((config.num_attention_heads,), dim=2)
        rings[moment.slots[:, None], :, :, moment.places] = torch.stack((keys, values), dim=2)
        held = rings.index_select(0, moment.slots)  # [B, 2, K, R, D]
        attended = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            held[:, 0],
            held[:, 1],
            attn_mask=moment.mask,
            enable_gqa=config.num_attention_heads != config.num_key_value_heads,
        )  # [B, H, F, D]
        return F.linear(attended.transpose(1, 2).flatten(2), layer.out)

    def _mlp(self, layer: Layer, x: Tensor) -> Tensor:
        gate, up = F.linear(self._norm(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return F.linear(ACTIVATIONS[self.config.hidden_act](gate) * up, layer.down)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.rms_norm_eps)
