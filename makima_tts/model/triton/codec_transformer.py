"""The codec's transformer in Triton, in five launches a layer: norms and sums are part of products.

In: features of the frames of one call, the state of all slots. Out: features; the rings, written in place.
Does not know: codes, sound.

S slots · B batch rows · F frames of one call · E hidden size · H query heads · K key heads · D head size ·
R frames in the ring.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.codec_ops import CodecCall, CodecTransformer, ring_cache
from makima_tts.model.transformer import LayerWeights, run_layers
from makima_tts.model.triton.convolutions import GELU, SILU, PaddedFeatures, TritonConvolution, new_features


@dataclass(frozen=True, slots=True)
class CallFeatures:
    """``features``: [B, F, E], the residual stream."""

    features: PaddedFeatures
    call: CodecCall


@dataclass(frozen=True, slots=True)
class CallAngles:
    """``cos``, ``sin``: float32 [B, F, D / 2]."""

    cos: Tensor
    sin: Tensor
    call: CodecCall


class TritonCodecLayer:
    """A Layer of CallFeatures."""

    def __init__(self, config: CodecDecoderConfig, weights: LayerWeights) -> None:
        eps, activation = config.rms_norm_eps, GELU if config.hidden_act == "gelu" else SILU
        self._config = config
        self._qkv = TritonConvolution(_scaled(weights.qkv, weights.input_norm), None, eps=eps)
        self._out = TritonConvolution(weights.out, None)
        gate_up = _scaled(weights.gate_up, weights.mlp_norm)
        self._gate_up = TritonConvolution(gate_up, None, eps=eps, activation=activation, gated=True)
        self._down = TritonConvolution(weights.down, None)

    def qkv(self, x: CallFeatures) -> PaddedFeatures:
        return self._qkv(x.features, x.call)

    def attend(self, heads: PaddedFeatures, at: CallAngles, keys: Tensor, values: Tensor) -> PaddedFeatures:
        config, call, ring = self._config, at.call, keys.shape[2]
        half = config.head_size // 2
        attended = new_features(heads.values, heads.time, config.num_attention_heads * config.head_size, 0)
        _attend_kernel[(len(call.slots) * config.num_key_value_heads,)](
            heads.values, call.state.position, call.slots, at.cos, at.sin, keys, attended.values,
            keys.stride(0), values.storage_offset() - keys.storage_offset(), heads.time,
            config.head_size**-0.5,
            WINDOW=config.sliding_window, RING=ring, HEADS=config.num_attention_heads,
            KEY_HEADS=config.num_key_value_heads, HALF=half, BLOCK_R=triton.next_power_of_2(ring),
            BLOCK_D=triton.next_power_of_2(half),
        )  # fmt: skip
        return attended

    def out(self, attended: PaddedFeatures, x: CallFeatures) -> CallFeatures:
        return CallFeatures(self._out(attended, x.call, residual=x.features), x.call)

    def gate_up(self, x: CallFeatures) -> PaddedFeatures:
        return self._gate_up(x.features, x.call)

    def down(self, gated: PaddedFeatures, x: CallFeatures) -> CallFeatures:
        return CallFeatures(self._down(gated, x.call, residual=x.features), x.call)


def _scaled(weight: Tensor, norm: Tensor) -> Tensor:
    """With the norm's weight, multiplied before it is rounded; the rest of the norm is a factor a row."""
    return (weight.float() * norm.float()).to(weight.dtype)


class TritonCodecTransformer:
    """[B, F, latent] → [B, the next length + F, latent]."""

    def __init__(self, transformer: CodecTransformer) -> None:
        config = transformer.config
        out_proj = _scaled(transformer.out_proj, transformer.norm)
        exponents = torch.arange(0, config.head_size, 2, device=out_proj.device).float() / config.head_size
        self._in_proj = TritonConvolution(transformer.in_proj, transformer.in_proj_bias)
        self._layers = [TritonCodecLayer(config, layer) for layer in transformer.layers]
        self.out_proj = TritonConvolution(out_proj, transformer.out_proj_bias, eps=config.rms_norm_eps)
        self._periods = config.rope_theta**exponents  # float32 [D / 2]

    def __call__(self, x: PaddedFeatures, call: CodecCall) -> PaddedFeatures:
        at = self._angles(x.time, call)
        stream = CallFeatures(self._in_proj(x, call), call)
        return self.out_proj(run_layers(self._layers, stream, at, ring_cache(call.state)).features, call)

    def _angles(self, frames: int, call: CodecCall) -> CallAngles:
        half = len(self._periods)
        cos, sin = self._periods.new_empty(2, len(call.slots), frames, half)
        _angles_kernel[(len(call.slots) * frames,)](
            call.state.position, call.slots, self._periods, cos, sin, frames,
            HALF=half, BLOCK=triton.next_power_of_2(half), num_warps=1,
        )  # fmt: skip
        return CallAngles(cos, sin, call)


@triton.jit(do_not_specialize=["frames"])
def _angles_kernel(
    positions_ptr, slots_ptr, periods_ptr, cos_ptr, sin_ptr, frames,
    HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program for every row and frame: its rotary embedding, in float32 like all angles."""
    program = tl.program_id(0)
    offs_d = tl.arange(0, BLOCK)
    position = tl.load(positions_ptr + tl.load(slots_ptr + program // frames)) + program % frames
    angle = tl.div_rn(position.to(tl.float32), tl.load(periods_ptr + offs_d, mask=offs_d < HALF, other=1.0))
    tl.store(cos_ptr + program * HALF + offs_d, tl.cos(angle), mask=offs_d < HALF)
    tl.store(sin_ptr + program * HALF + offs_d, tl.sin(angle), mask=offs_d < HALF)


@triton.jit
def _rotated(first, second, cos, sin, dtype: tl.constexpr):
    """The two halves of heads, rotated; rounded to the precision of the ring."""
    first, second = first.to(tl.float32), second.to(tl.float32)
    return (first * cos - second * sin).to(dtype), (second * cos + first * sin).to(dtype)


@triton.jit(do_not_specialize=["frames"])
def _attend_kernel(
    heads_ptr, positions_ptr, slots_ptr, cos_ptr, sin_ptr, keys_ptr, out_ptr,
    stride_k_s, values_offset, frames, scale,
    WINDOW: tl.constexpr, RING: tl.constexpr, HEADS: tl.constexpr, KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A program for every row and key head: rotates, writes the ring, and attends.

    It reads from the ring what is older than this call, and the call's own keys from ``heads_ptr``, both in
    the order of the ring, so that sums have one order for any split into calls. Nothing is read that is
    written here: what the call overwrites is outside of every window.
    """
    dtype: tl.constexpr = heads_ptr.dtype.element_ty
    GROUPS: tl.constexpr = HEADS // KEY_HEADS
    WIDTH: tl.constexpr = (HEADS + 2 * KEY_HEADS) * 2 * HALF
    row, head = (tl.program_id(0) // KEY_HEADS).to(tl.int64), tl.program_id(0) % KEY_HEADS
    slot = tl.load(slots_ptr + row)
    start = tl.load(positions_ptr + slot)
    offs_r, offs_d = tl.arange(0, BLOCK_R), tl.arange(0, BLOCK_D)
    mask_d = offs_d < HALF
    last = start + frames - 1
    cached = last - (last - offs_r + RING) % RING  # [R]: the latest frame that an entry holds
    cached = tl.where(offs_r < RING, cached, -1)
    new = cached >= start
    old = (cached >= 0) & (cached > start - WINDOW) & (cached < start)

    offs_ring = offs_r[:, None] * (2 * HALF) + offs_d[None, :]
    mask_new = new[:, None] & mask_d[None, :]
    mask_old = old[:, None] & mask_d[None, :]
    ring_keys = keys_ptr + slot * stride_k_s + head * (RING * 2 * HALF) + offs_ring
    ring_values = ring_keys + values_offset
    source_row = tl.where(new, row * frames + cached - start, 0)  # [R]: an entry's row of heads
    source = heads_ptr + (source_row * WIDTH + (HEADS + head) * (2 * HALF))[:, None] + offs_d[None, :]
    offs_angle = (source_row * HALF)[:, None] + offs_d[None, :]
    key, key_2 = _rotated(
        tl.load(source, mask=mask_new, other=0.0),
        tl.load(source + HALF, mask=mask_new, other=0.0),
        tl.load(cos_ptr + offs_angle, mask=mask_new, other=0.0),
        tl.load(sin_ptr + offs_angle, mask=mask_new, other=0.0),
        dtype,
    )
    source += KEY_HEADS * 2 * HALF
    value, value_2 = (
        tl.load(source, mask=mask_new, other=0.0),
        tl.load(source + HALF, mask=mask_new, other=0.0),
    )
    old_key = tl.load(ring_keys, mask=mask_old, other=0.0)
    old_key_2 = tl.load(ring_keys + HALF, mask=mask_old, other=0.0)
    old_value = tl.load(ring_values, mask=mask_old, other=0.0)
    old_value_2 = tl.load(ring_values + HALF, mask=mask_old, other=0.0)
    tl.store(ring_keys, key, mask=mask_new)
    tl.store(ring_keys + HALF, key_2, mask=mask_new)
    tl.store(ring_values, value, mask=mask_new)
    tl.store(ring_values + HALF, value_2, mask=mask_new)
    key, key_2 = tl.where(mask_new, key, old_key), tl.where(mask_new, key_2, old_key_2)
    value, value_2 = tl.where(mask_new, value, old_value), tl.where(mask_new, value_2, old_value_2)

    for query in range(frames * GROUPS):
        frame, member = query // GROUPS, query % GROUPS
        q_row = row * frames + frame
        offs_head = (head * GROUPS + member) * (2 * HALF) + offs_d
        offs_q_angle = q_row * HALF + offs_d
        q, q_2 = _rotated(
            tl.load(heads_ptr + q_row * WIDTH + offs_head, mask=mask_d, other=0.0),
            tl.load(heads_ptr + q_row * WIDTH + offs_head + HALF, mask=mask_d, other=0.0),
            tl.load(cos_ptr + offs_q_angle, mask=mask_d, other=0.0),
            tl.load(sin_ptr + offs_q_angle, mask=mask_d, other=0.0),
            dtype,
        )
        products = key.to(tl.float32) * q.to(tl.float32)[None, :]
        products += key_2.to(tl.float32) * q_2.to(tl.float32)[None, :]
        visible = (cached >= 0) & (cached <= start + frame) & (cached > start + frame - WINDOW)
        score = tl.where(visible, tl.sum(products, axis=1) * scale, float("-inf"))
        p = tl.exp(score - tl.max(score, axis=0))
        p = (p / tl.sum(p, axis=0))[:, None]
        out = out_ptr + q_row * (HEADS * 2 * HALF) + offs_head
        tl.store(out, tl.sum(p * value.to(tl.float32), axis=0).to(dtype), mask=mask_d)
        tl.store(out + HALF, tl.sum(p * value_2.to(tl.float32), axis=0).to(dtype), mask=mask_d)
