"""The codec decoder's leaves in Triton: few launches, and a conv state that is updated in place.

In: leaves of torch. Out: the same leaves, each fused with the next one's snake and conv state; samples of
16 bits. Does not know: which utterance has a slot, when to decode.

S slots · B batch rows · F frames of one call · Q codebooks · V codes in a codebook · T time · C channels ·
K taps, or key heads · E hidden size · H query heads · D head size · R frames in the ring.

The state is that of torch's leaves: a stream may be continued by either. The transformer takes five launches
a layer: norms and sums are part of products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.codec_ops import (
    FULL_SCALE,
    LAYER_NORM_EPS,
    SILENT_RMS,
    WINDOW_S,
    CausalConv,
    Codebooks,
    CodecCall,
    CodecOps,
    CodecTransformer,
    DepthwiseConv,
    Layer,
    Leaf,
    Linear,
    ring_cache,
)
from makima_tts.model.transformer import LayerWeights, run_layers
from makima_tts.model.triton.convolutions import (
    COPY_BLOCK,
    GELU,
    NOTHING,
    SILU,
    Following,
    PaddedFeatures,
    TritonConvolution,
    copy_state,
    new_features,
    state_programs,
)

# Samples of one program: enough programs for one frame, each with enough loads in flight.
_SAMPLES_BLOCK = 64


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


@triton.jit(do_not_specialize=["stride_row", "stride_frame", "batch", "frames"])
def embed_codes(
    codes_ptr, stride_row, stride_frame, table_ptr, out_ptr, state_ptr, slots_ptr,
    stride_state, next_state_start, batch, frames, next_pad,
    CODEBOOKS: tl.constexpr, SIZE: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
    COPY: tl.constexpr,
):  # fmt: skip
    """A program for every batch row and frame, after those that load conv states."""
    program = tl.program_id(0)
    load_programs = batch * tl.cdiv(next_pad, COPY)
    stride_out = next_pad + frames * CHANNELS
    if program < load_programs:
        copy_state(
            program, out_ptr, stride_out, next_pad,
            state_ptr, stride_state, next_state_start, slots_ptr, False, COPY,
        )  # fmt: skip
    else:
        row, frame = (program - load_programs) // frames, (program - load_programs) % frames
        channel = tl.arange(0, BLOCK)
        acc = tl.zeros((BLOCK,), tl.float32)
        for codebook in range(CODEBOOKS):
            code = tl.load(codes_ptr + row.to(tl.int64) * stride_row + frame * stride_frame + codebook)
            # Rows that fill up a batch hold anything, and the end of speech is not a code: never an index.
            code = tl.minimum(tl.maximum(code, 0), SIZE - 1) + codebook * SIZE
            acc += tl.load(table_ptr + code * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)
        target = out_ptr + row.to(tl.int64) * stride_out + next_pad + frame * CHANNELS + channel
        tl.store(target, acc.to(out_ptr.dtype.element_ty), mask=channel < CHANNELS)


class TritonCodebooks:
    """Codes beyond the codebook are taken for its first or last one."""

    def __init__(self, codebooks: Codebooks) -> None:
        self._table = codebooks.table
        self._count = len(codebooks.offsets)
        self._following = Following()

    def follow_with(self, following: Following) -> None:
        self._following = following

    def __call__(self, codes: Tensor, call: CodecCall) -> PaddedFeatures:
        """int64 [B, F, Q] → [B, the next length + F, C]."""
        codes = codes if codes.stride(2) == 1 else codes.contiguous()
        (batch, frames, _), channels = codes.shape, self._table.shape[1]
        region = self._following.region
        out = PaddedFeatures(self._table.new_empty(batch, region.length + frames, channels), region.length)
        embed_codes[(batch * (state_programs(region) + frames),)](
            codes, codes.stride(0), codes.stride(1), self._table, out.values, call.conv_state, call.slots,
            call.conv_state.stride(0), region.start, batch, frames, out.pad,
            CODEBOOKS=self._count, SIZE=len(self._table) // self._count, CHANNELS=channels,
            BLOCK=triton.next_power_of_2(channels), COPY=COPY_BLOCK,
        )  # fmt: skip
        return out


@triton.jit(do_not_specialize=["time", "store_programs"])
def depthwise_and_norm(
    x_ptr, w_ptr, bias_ptr, norm_ptr, norm_bias_ptr, out_ptr, state_ptr, slots_ptr,
    stride_state, state_start, time, pad, store_programs, eps,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr, COPY: tl.constexpr,
):  # fmt: skip
    """A program for every batch row and time step, after those that store conv states."""
    program = tl.program_id(0)
    stride_x = pad + time * CHANNELS
    if program < store_programs:
        copy_state(program, x_ptr, stride_x, pad, state_ptr, stride_state, state_start, slots_ptr, True, COPY)
    else:
        row = (program - store_programs).to(tl.int64)
        channel = tl.arange(0, BLOCK)
        mask = channel < CHANNELS
        window = x_ptr + (row // time) * stride_x + (row % time) * CHANNELS + channel
        acc = tl.zeros((BLOCK,), tl.float32)
        for tap in range(TAPS):
            w = tl.load(w_ptr + tap * CHANNELS + channel, mask=mask, other=0.0).to(tl.float32)
            acc += tl.load(window + tap * CHANNELS, mask=mask, other=0.0).to(tl.float32) * w
        acc += tl.load(bias_ptr + channel, mask=mask, other=0.0).to(tl.float32)
        centred = tl.where(mask, acc - tl.sum(acc, axis=0) / CHANNELS, 0.0)
        normed = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / CHANNELS + eps)
        normed *= tl.load(norm_ptr + channel, mask=mask).to(tl.float32)
        normed += tl.load(norm_bias_ptr + channel, mask=mask).to(tl.float32)
        tl.store(out_ptr + row * CHANNELS + channel, normed.to(out_ptr.dtype.element_ty), mask=mask)


def triton_depthwise(conv: DepthwiseConv) -> Layer[PaddedFeatures]:
    """The next leaf is a matrix: it needs neither conv state nor a snake."""
    weight = conv.weight.T.contiguous()  # [K, C], so that a program reads contiguous memory

    def launch(x: PaddedFeatures, call: CodecCall) -> PaddedFeatures:
        batch, channels = len(x.values), x.values.shape[2]
        out = new_features(x.values, x.time, channels, 0)
        store_programs = batch * state_programs(conv.region)
        depthwise_and_norm[(store_programs + batch * x.time,)](
            x.values, weight, conv.bias, conv.norm, conv.norm_bias, out.values, call.conv_state, call.slots,
            call.conv_state.stride(0), conv.region.start, x.time, x.pad, store_programs, LAYER_NORM_EPS,
            CHANNELS=channels, TAPS=len(weight), BLOCK=triton.next_power_of_2(channels), COPY=COPY_BLOCK,
        )  # fmt: skip
        return out

    return launch


@triton.jit(do_not_specialize=["batch", "time", "frames", "store_programs"])
def last_convolution(
    x_ptr, w_ptr, bias_ptr, samples_ptr, state_ptr, slots_ptr,
    stride_state, state_start, positions_ptr, batch, time, frames, pad, store_programs,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK: tl.constexpr,
    COPY: tl.constexpr,
):  # fmt: skip
    """One output: sums of products, not a matrix. It advances the positions too."""
    program = tl.program_id(0)
    stride_x = pad + time * CHANNELS
    if program < store_programs:
        copy_state(program, x_ptr, stride_x, pad, state_ptr, stride_state, state_start, slots_ptr, True, COPY)
    elif program < store_programs + batch:
        # No later launch of this call reads a position: the transformer is done.
        position_ptr = positions_ptr + tl.load(slots_ptr + program - store_programs)
        tl.store(position_ptr, tl.load(position_ptr) + frames)
    else:
        row = (program - store_programs - batch) * BLOCK_M + tl.arange(0, BLOCK_M)
        channel = tl.arange(0, BLOCK)
        mask = (row < batch * time)[:, None] & (channel < CHANNELS)[None, :]
        window = (row // time).to(tl.int64) * stride_x + (row % time) * CHANNELS
        acc = tl.zeros((BLOCK_M, BLOCK), tl.float32)
        for tap in range(TAPS):
            k = tap * CHANNELS + channel
            x = tl.load(x_ptr + (window[:, None] + k[None, :]), mask=mask, other=0.0)
            w = tl.load(w_ptr + k, mask=channel < CHANNELS, other=0.0)
            acc += x.to(tl.float32) * w.to(tl.float32)[None, :]
        sample = tl.sum(acc, axis=1) + tl.load(bias_ptr).to(tl.float32)
        # Not as a minimum and a maximum: NaN stays NaN.
        sample = tl.where(sample > 1.0, 1.0, tl.where(sample < -1.0, -1.0, sample))
        tl.store(samples_ptr + row, sample, mask=row < batch * time)


def triton_samples(conv: CausalConv) -> Callable[[PaddedFeatures, CodecCall], Tensor]:
    """[B, length + T, C] → float32 [B, T], from -1 to 1."""

    def launch(x: PaddedFeatures, call: CodecCall) -> Tensor:
        batch, region = len(x.values), conv.region
        samples = torch.empty(batch, x.time, device=x.values.device)
        store_programs = batch * state_programs(region)
        programs = store_programs + batch + triton.cdiv(batch * x.time, _SAMPLES_BLOCK)
        last_convolution[(programs,)](
            x.values, conv.weight, conv.bias, samples, call.conv_state, call.slots,
            call.conv_state.stride(0), region.start, call.state.position, batch, x.time, call.frames, x.pad,
            store_programs,
            CHANNELS=region.channels, TAPS=conv.kernel, BLOCK_M=_SAMPLES_BLOCK,
            BLOCK=triton.next_power_of_2(region.channels), COPY=COPY_BLOCK,
        )  # fmt: skip
        return samples

    return launch


class _Chain:
    """Tells each leaf what follows it. The decoder makes leaves in the order in which features pass them.

    It also counts the time steps of a frame, from which a leaf's tile follows.
    """

    def __init__(self) -> None:
        self._last: TritonCodebooks | TritonConvolution | None = None
        self._steps_per_frame = 1

    def embed(self, codebooks: Codebooks) -> TritonCodebooks:
        self._last = leaf = TritonCodebooks(codebooks)
        return leaf

    def convolution(self, conv: CausalConv) -> Leaf[PaddedFeatures]:
        leaf = TritonConvolution.of(conv, self._steps_per_frame)
        self._steps_per_frame *= conv.rate
        return self._linked(leaf, Following(conv.region, conv.snake, conv.is_residual))

    def linear(self, linear: Linear) -> Leaf[PaddedFeatures]:
        activation, steps = GELU if linear.gelu else NOTHING, self._steps_per_frame
        leaf = TritonConvolution(linear.weight, linear.bias, activation=activation, steps_per_frame=steps)
        return self._linked(leaf, Following())

    def depthwise(self, conv: DepthwiseConv) -> Layer[PaddedFeatures]:
        self._follow(Following(conv.region))
        return triton_depthwise(conv)

    def transformer(self, transformer: CodecTransformer) -> Layer[PaddedFeatures]:
        leaf = TritonCodecTransformer(transformer)
        self._linked(leaf.out_proj, Following())
        return leaf

    def samples(self, conv: CausalConv) -> Callable[[PaddedFeatures, CodecCall], Tensor]:
        self._follow(Following(conv.region, conv.snake))
        return triton_samples(conv)

    def _linked(self, leaf: TritonConvolution, needs: Following) -> TritonConvolution:
        """``needs``: what this leaf reads. ``leaf`` is the one that the next leaf follows."""
        self._follow(needs)
        self._last = leaf
        return leaf

    def _follow(self, needs: Following) -> None:
        if self._last is not None:
            self._last.follow_with(needs)
        self._last = None


def triton_codec_ops() -> CodecOps[PaddedFeatures]:
    chain = _Chain()
    return CodecOps(
        begin=CodecCall.in_place,
        embed=chain.embed,
        convolution=chain.convolution,
        depthwise=chain.depthwise,
        linear=chain.linear,
        transformer=chain.transformer,
        samples=chain.samples,
    )


@triton.jit
def finish_frames(
    samples_ptr, pcm_ptr, loud_ptr, finite_ptr,
    COUNT: tl.constexpr, WINDOWS: tl.constexpr, MIN_SQUARE: tl.constexpr, FULL_SCALE: tl.constexpr,
    LARGEST: tl.constexpr, BLOCK: tl.constexpr, BLOCK_WINDOWS: tl.constexpr, BLOCK_WINDOW: tl.constexpr,
):  # fmt: skip
    """A program a frame of ``COUNT`` samples. ``MIN_SQUARE``: the least mean square of a loud one."""
    frame = tl.program_id(0).to(tl.int64)
    samples_ptr += frame * COUNT
    offs = tl.arange(0, BLOCK)
    x = tl.load(samples_ptr + offs, mask=offs < COUNT, other=0.0)
    not_finite = tl.sum(tl.where(tl.abs(x) <= LARGEST, 0, 1), axis=0)
    x = tl.minimum(tl.maximum(tl.where(not_finite > 0, 0.0, x), -1.0), 1.0) * FULL_SCALE
    # Beside 1.5 · 2²³ a float32 has no fraction: halves are rounded to even, by IEEE's rule.
    whole = (x + 12582912.0) - 12582912.0
    tl.store(pcm_ptr + frame * COUNT + offs, whole.to(tl.int16), mask=offs < COUNT)
    tl.store(finite_ptr + frame, not_finite == 0)

    window, within = tl.arange(0, BLOCK_WINDOWS), tl.arange(0, BLOCK_WINDOW)
    size: tl.constexpr = COUNT // WINDOWS
    mask = (window < WINDOWS)[:, None] & (within < size)[None, :]
    x = tl.load(samples_ptr + (window * size)[:, None] + within[None, :], mask=mask, other=0.0)
    means = tl.sum(x * x, axis=1) / size
    # As in torch, a mean that is NaN is the greatest, and not loud.
    unknown = tl.sum(tl.where(means >= 0.0, 0, 1), axis=0)
    loudest = tl.max(tl.where(means >= 0.0, means, 0.0), axis=0)
    tl.store(loud_ptr + frame, (loudest >= MIN_SQUARE) & (unknown == 0))


def finish(samples: Tensor, frames: int, sample_rate_hz: int) -> tuple[Tensor, Tensor, Tensor]:
    """``finish`` of codec_ops.py in one launch: the same to the bit."""
    samples = samples.contiguous()
    batch, count = len(samples), samples.shape[1] // frames
    pcm = torch.empty_like(samples, dtype=torch.int16)
    loud, finite = torch.empty(2, batch, frames, dtype=torch.bool, device=samples.device)
    windows = max(1, round(count / (sample_rate_hz * WINDOW_S)))
    finish_frames[(batch * frames,)](
        samples, pcm, loud, finite,
        COUNT=count, WINDOWS=windows, MIN_SQUARE=SILENT_RMS**2, FULL_SCALE=FULL_SCALE,
        LARGEST=torch.finfo(torch.float32).max, BLOCK=triton.next_power_of_2(count),
        BLOCK_WINDOWS=triton.next_power_of_2(windows), BLOCK_WINDOW=triton.next_power_of_2(count // windows),
    )  # fmt: skip
    return pcm, loud, finite
