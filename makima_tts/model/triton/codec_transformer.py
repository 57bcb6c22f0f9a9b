"""The codec's transformer in five launches a layer: three of its norms and sums are part of products.

In: features of the frames of one call, the state of all slots, which slots these are. Out: features; the
rings, written in place. Does not know: codes, sound.

S slots · B batch rows · F frames of one call · E hidden size · H query heads · K key heads · D head size ·
R frames in the ring.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.codec_state import CodecCall
from makima_tts.model.codec_transformer import CodecTransformer, Layer, ring_frames
from makima_tts.model.triton.activations import GELU, SILU
from makima_tts.model.triton.convolutions import PaddedFeatures, TritonConvolution, new_features


@triton.jit(do_not_specialize=["frames"])
def angles_of(
    positions: tl.tensor,
    slots: tl.tensor,
    periods: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    frames: tl.tensor,
    half: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """A program for every row and frame: what its heads are turned by. In float32, as all angles."""
    program = tl.program_id(0)
    pair = tl.arange(0, block)
    position = tl.load(positions + tl.load(slots + program // frames)) + program % frames
    angle = tl.div_rn(position.to(tl.float32), tl.load(periods + pair, mask=pair < half, other=1.0))
    tl.store(cos + program * half + pair, tl.cos(angle), mask=pair < half)
    tl.store(sin + program * half + pair, tl.sin(angle), mask=pair < half)


@triton.jit
def _turned(
    first: tl.tensor, second: tl.tensor, cos: tl.tensor, sin: tl.tensor, number: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """The two halves of heads, turned; rounded to what a ring can hold."""
    first, second = first.to(tl.float32), second.to(tl.float32)
    return (first * cos - second * sin).to(number), (second * cos + first * sin).to(number)


@triton.jit(do_not_specialize=["frames"])
def look_back(
    heads: tl.tensor,
    positions: tl.tensor,
    slots: tl.tensor,
    cosines: tl.tensor,
    sines: tl.tensor,
    rings: tl.tensor,
    attended: tl.tensor,
    slot_stride: tl.tensor,
    values_at: tl.tensor,
    frames: tl.tensor,
    scale: tl.tensor,
    window: tl.constexpr,
    ring: tl.constexpr,
    query_heads: tl.constexpr,
    key_heads: tl.constexpr,
    half: tl.constexpr,
    ring_block: tl.constexpr,
    half_block: tl.constexpr,
) -> None:
    """A program for every row and key head: turns, writes the ring, and attends.

    It reads from the ring what is older than this call, and the call's own keys from where they were made;
    but each at its place in the ring, so that sums have one order however frames come. Nothing is read that
    is written here: what the call overwrites is out of everyone's window.
    """
    number: tl.constexpr = heads.dtype.element_ty
    group: tl.constexpr = query_heads // key_heads
    width: tl.constexpr = (query_heads + 2 * key_heads) * 2 * half
    row, head = (tl.program_id(0) // key_heads).to(tl.int64), tl.program_id(0) % key_heads
    slot = tl.load(slots + row)
    start = tl.load(positions + slot)
    entry, pair = tl.arange(0, ring_block), tl.arange(0, half_block)
    there = pair < half
    last = start + frames - 1
    held = last - (last - entry + ring) % ring  # [R]: the latest frame that an entry is of
    held = tl.where(entry < ring, held, -1)
    new = held >= start
    old = (held >= 0) & (held > start - window) & (held < start)

    at = entry[:, None] * (2 * half) + pair[None, :]
    here = new[:, None] & there[None, :]
    kept = old[:, None] & there[None, :]
    keys = rings + slot * slot_stride + head * (ring * 2 * half) + at
    values = keys + values_at
    made = tl.where(new, row * frames + held - start, 0)  # [R]: which row of heads an entry is
    of = heads + (made * width + (query_heads + head) * (2 * half))[:, None] + pair[None, :]
    turn = (made * half)[:, None] + pair[None, :]
    key, key_after = _turned(
        tl.load(of, mask=here, other=0.0),
        tl.load(of + half, mask=here, other=0.0),
        tl.load(cosines + turn, mask=here, other=0.0),
        tl.load(sines + turn, mask=here, other=0.0),
        number,
    )
    of += key_heads * 2 * half
    value, value_after = tl.load(of, mask=here, other=0.0), tl.load(of + half, mask=here, other=0.0)
    held_key = tl.load(keys, mask=kept, other=0.0)
    held_key_after = tl.load(keys + half, mask=kept, other=0.0)
    held_value = tl.load(values, mask=kept, other=0.0)
    held_value_after = tl.load(values + half, mask=kept, other=0.0)
    tl.store(keys, key, mask=here)
    tl.store(keys + half, key_after, mask=here)
    tl.store(values, value, mask=here)
    tl.store(values + half, value_after, mask=here)
    key, key_after = tl.where(here, key, held_key), tl.where(here, key_after, held_key_after)
    value, value_after = tl.where(here, value, held_value), tl.where(here, value_after, held_value_after)

    for query in range(frames * group):
        frame, of_group = query // group, query % group
        at_row = row * frames + frame
        at_head = (head * group + of_group) * (2 * half) + pair
        by = at_row * half + pair
        asked, asked_after = _turned(
            tl.load(heads + at_row * width + at_head, mask=there, other=0.0),
            tl.load(heads + at_row * width + at_head + half, mask=there, other=0.0),
            tl.load(cosines + by, mask=there, other=0.0),
            tl.load(sines + by, mask=there, other=0.0),
            number,
        )
        product = key.to(tl.float32) * asked.to(tl.float32)[None, :]
        product += key_after.to(tl.float32) * asked_after.to(tl.float32)[None, :]
        seen = (held >= 0) & (held <= start + frame) & (held > start + frame - window)
        score = tl.where(seen, tl.sum(product, axis=1) * scale, float("-inf"))
        share = tl.exp(score - tl.max(score, axis=0))
        share = (share / tl.sum(share, axis=0))[:, None]
        to = attended + at_row * (query_heads * 2 * half) + at_head
        tl.store(to, tl.sum(share * value.to(tl.float32), axis=0).to(number), mask=there)
        tl.store(to + half, tl.sum(share * value_after.to(tl.float32), axis=0).to(number), mask=there)


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """As Layer: the products, each with the norm before it or the sum after it."""

    qkv: TritonConvolution
    out: TritonConvolution
    gate_up: TritonConvolution
    down: TritonConvolution

    @classmethod
    def of(cls, layer: Layer, config: CodecDecoderConfig) -> "FusedLayer":
        eps, activation = config.rms_norm_eps, GELU if config.hidden_act == "gelu" else SILU
        gate_up = _scaled(layer.gate_up, layer.mlp_norm)
        return cls(
            qkv=TritonConvolution(_scaled(layer.qkv, layer.input_norm), None, eps=eps),
            out=TritonConvolution(layer.out, None),
            gate_up=TritonConvolution(gate_up, None, eps=eps, activation=activation, gated=True),
            down=TritonConvolution(layer.down, None),
        )


def _scaled(weight: Tensor, norm: Tensor) -> Tensor:
    """With the norm's weight, multiplied before it is rounded; what remains of the norm is a factor a row."""
    return (weight.float() * norm.float()).to(weight.dtype)


@dataclass(frozen=True, slots=True)
class FusedTransformer:
    """As CodecTransformer. ``periods``: float32 [D / 2], of the angles."""

    config: CodecDecoderConfig
    inward: TritonConvolution
    layers: tuple[FusedLayer, ...]
    outward: TritonConvolution
    periods: Tensor

    @classmethod
    def of(cls, transformer: CodecTransformer) -> "FusedTransformer":
        config, outward = transformer.config, _scaled(transformer.outward, transformer.norm)
        exponents = torch.arange(0, config.head_size, 2, device=outward.device).float() / config.head_size
        return cls(
            config=config,
            inward=TritonConvolution(transformer.inward, transformer.inward_bias),
            layers=tuple(FusedLayer.of(layer, config) for layer in transformer.layers),
            outward=TritonConvolution(outward, transformer.outward_bias, eps=config.rms_norm_eps),
            periods=config.rope_theta**exponents,
        )

    def __call__(self, x: PaddedFeatures, call: CodecCall) -> PaddedFeatures:
        """[B, F, latent] → [B, the next length + F, latent]."""
        turns = self._turns(x, call)
        x = self.inward(x, call)
        for index, layer in enumerate(self.layers):
            heads = layer.qkv(x, call)
            attended = self._attend(heads, turns, call.state.keys_values[:, index], call)
            x = layer.out(attended, call, residual=x)
            x = layer.down(layer.gate_up(x, call), call, residual=x)
        return self.outward(x, call)

    def _turns(self, x: PaddedFeatures, call: CodecCall) -> tuple[Tensor, Tensor]:
        """cos and sin: float32 [B, F, D / 2]."""
        half = len(self.periods)
        cos, sin = self.periods.new_empty(2, len(call.slots), x.time, half)
        angles_of[(len(call.slots) * x.time,)](
            call.state.position,
            call.slots,
            self.periods,
            cos,
            sin,
            x.time,
            half=half,
            block=triton.next_power_of_2(half),
            num_warps=1,
        )
        return cos, sin

    def _attend(
        self, heads: PaddedFeatures, turns: tuple[Tensor, Tensor], rings: Tensor, call: CodecCall
    ) -> PaddedFeatures:
        """``rings``: [S, 2, K, R, D], written where these frames are."""
        config, ring = self.config, ring_frames(self.config)
        half = config.head_size // 2
        attended = new_features(heads.values, heads.time, config.num_attention_heads * config.head_size, 0)
        look_back[(len(call.slots) * config.num_key_value_heads,)](
            heads.values,
            call.state.position,
            call.slots,
            *turns,
            rings,
            attended.values,
            rings.stride(0),
            rings.stride(1),
            heads.time,
            config.head_size**-0.5,
            window=config.sliding_window,
            ring=ring,
            query_heads=config.num_attention_heads,
            key_heads=config.num_key_value_heads,
            half=half,
            ring_block=triton.next_power_of_2(ring),
            half_block=triton.next_power_of_2(half),
        )
        return attended
