"""Causal convolutions, and matrices as a special case: one launch from a leaf's input to the next one's.

In: features with their conv state before them, the state of all slots. Out: features as the next leaf reads
them; the state, advanced. Does not know: codes, frames, which utterance has a slot.

B batch rows · T time · C channels in · O channels out · S slots · N values of conv state. Of the product:
M = B * T rows · K = taps * C inputs · N = rate * O outputs.

A convolution is the product of its windows [M, K] and its weight, and a window is never copied: channels come
last, so that a tap is an offset. The block sizes follow from the layer alone: the bits of a row depend on
neither the number of rows nor how a stream is split into calls.

The input of a convolution is allocated with room for its conv state, [B, length + T, C], so that it reads one
contiguous tensor. The launch that computes the input loads the state into that room, by programs of its own.
The convolution stores the last ``length`` rows of its input as the new state, again by programs of its own.
No other program of that launch reads the state: the old one was loaded before, in full, also where it is
longer than T and remains in part.
"""

from dataclasses import dataclass
from math import pi
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_ops import CausalConv, CodecCall, Snake, StateRegion

# Activations.
NOTHING: Final = 0
GELU: Final = 1
SILU: Final = 2

# Values that one program copies.
COPY_BLOCK = 8192

NO_STATE = StateRegion(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Tile:
    """The block of one program, ``stages`` of its loads in flight.

    ``registers``: of a thread at most, so that two programs fit into a multiprocessor.
    """

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    registers: int | None = None


# In bytes of shared memory for one stage: 16, 24 and 32 K, so that 99 K are enough.
_NARROW = Tile(64, 64, 64, 4, 4)
_WIDE = Tile(64, 128, 64, 4, 4)
_LARGE = Tile(128, 128, 64, 8, 3, registers=128)
# Without tensor cores, and with numbers twice as wide.
_EXACT = Tile(64, 64, 64, 4, 2)
_EXACT_LARGE = Tile(128, 64, 64, 8, 2)


def tile_of(steps_per_frame: int, dtype: torch.dtype) -> Tile:
    """``steps_per_frame``: rows for one frame of one stream.

    With few rows the time is that of loading weights, so there should be many programs. With many it is that
    of loading rows, and a larger tile loads each of them fewer times.
    """
    if dtype == torch.float32:
        return _EXACT if steps_per_frame < 64 else _EXACT_LARGE
    if steps_per_frame < 16:
        return _NARROW
    return _WIDE if steps_per_frame < 64 else _LARGE


@dataclass(frozen=True, slots=True)
class PaddedFeatures:
    """``values``: [B, length + T, C], after ``length`` rows of conv state.

    ``before_snake``: [B, T, C], where the values are after a snake and a residual needs them before it.
    """

    values: Tensor
    length: int = 0
    before_snake: Tensor | None = None

    @property
    def time(self) -> int:
        return self.values.shape[1] - self.length

    @property
    def pad(self) -> int:
        """How many values of a row are conv state."""
        return self.length * self.values.shape[2]


def new_features(like: Tensor, time: int, channels: int, length: int) -> PaddedFeatures:
    """For as many batch rows as ``like`` has."""
    return PaddedFeatures(like.new_empty(len(like), length + time, channels), length)


@dataclass(frozen=True, slots=True)
class Following:
    """What the next leaf reads: room for its ``region`` of the state, features after its ``snake``.

    ``is_residual``: the features before the snake are added to a later result.
    """

    region: StateRegion = NO_STATE
    snake: Snake | None = None
    is_residual: bool = False


def state_programs(region: StateRegion) -> int:
    """Programs that copy one row's region."""
    return -(-region.size // COPY_BLOCK)


@triton.jit
def snake(x, turns, amplitude):
    """Snake of codec_ops, x + sin²(π · x · turns) · amplitude; the sine to 2e-7.

    The square of the sine has the period 1, so whole periods are subtracted without error; the sine is a
    polynomial of the square of the rest. CUDA's sine takes four times as many instructions, and the codec
    computes two of them for each feature.
    """
    phase = x * turns
    rest = phase - tl.floor(phase + 0.5)
    # Beyond 2²³ floats have no halves, and there is no phase: the result only has to be finite.
    rest = tl.minimum(tl.maximum(rest, -0.5), 0.5)
    square = rest * rest
    sine = 0.7419169321656227 * square - 3.9130302950673337
    sine = sine * square + 13.206597007070998
    sine = sine * square - 30.121752628920024
    sine = sine * square + 42.728385015372396
    sine = sine * square - 32.46969664340683
    sine = sine * square + 9.869604400151083
    return x + sine * square * amplitude


@triton.jit
def activated(x, ACTIVATION: tl.constexpr):
    """``ACTIVATION``: NOTHING, GELU or SILU."""
    if ACTIVATION == 1:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if ACTIVATION == 2:
        return x / (1.0 + tl.exp(-x))
    return x


@triton.jit
def copy_state(
    program, x_ptr, stride_x, pad,
    state_ptr, stride_state, start, slots_ptr,
    STORE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Between ``x_ptr``, rows of ``stride_x`` values, and ``start`` in the state of each row's slot.

    ``STORE``: the last ``pad`` values of a row go to the state. Otherwise its first come from there.
    """
    blocks = tl.cdiv(pad, BLOCK)
    row, value = (program // blocks).to(tl.int64), (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    in_state = state_ptr + tl.load(slots_ptr + row) * stride_state + start
    if STORE:
        last = x_ptr + row * stride_x + stride_x - pad
        tl.store(in_state + value, tl.load(last + value, mask=value < pad), mask=value < pad)
    else:
        first = x_ptr + row * stride_x
        tl.store(first + value, tl.load(in_state + value, mask=value < pad), mask=value < pad)


@triton.jit
def _product(
    x_ptr, w_ptr, offs_m, offs_n, stride_tap, eps,
    CHANNELS: tl.constexpr, K: tl.constexpr, N: tl.constexpr, CONTIGUOUS: tl.constexpr, NORMED: tl.constexpr,
    GATED: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Windows at ``offs_m`` by outputs ``offs_n`` of the weight: two sums, the second for gates only."""
    acc = tl.zeros((offs_m.shape[0], offs_n.shape[0]), tl.float32)
    acc_up = acc
    squares = tl.zeros((offs_m.shape[0],), tl.float32)
    lanes = tl.arange(0, BLOCK_K)
    for start in range(0, K, BLOCK_K):
        k = start + lanes
        offs_k = k if CONTIGUOUS else (k // CHANNELS) * stride_tap + k % CHANNELS
        x_ptrs = x_ptr + (offs_m[:, None] + offs_k[None, :])
        w_ptrs = w_ptr + (offs_n[None, :] * K + k[:, None])
        if K % BLOCK_K == 0:
            x, w = tl.load(x_ptrs), tl.load(w_ptrs)
        else:
            mask = k < K
            x = tl.load(x_ptrs, mask=mask[None, :], other=0.0)
            w = tl.load(w_ptrs, mask=mask[:, None], other=0.0)
        acc = tl.dot(x, w, acc, input_precision="ieee")
        if GATED:
            w_ptrs += N * K
            if K % BLOCK_K == 0:
                w = tl.load(w_ptrs)
            else:
                w = tl.load(w_ptrs, mask=mask[:, None], other=0.0)
            acc_up = tl.dot(x, w, acc_up, input_precision="ieee")
        if NORMED:
            wide = x.to(tl.float32)
            squares += tl.sum(wide * wide, axis=1)
    if NORMED:
        scale = tl.rsqrt(squares / K + eps)[:, None]
        acc, acc_up = acc * scale, acc_up * scale
    return acc, acc_up


@triton.jit
def _epilogue(
    acc, acc_up, bias_ptr, offs_n, mask_n,
    residual_ptr, offs_residual, mask,
    GATED: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """Bias, activation, gate and residual."""
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + offs_n, mask=mask_n)[None, :].to(tl.float32)
    if ACTIVATION:
        acc = activated(acc, ACTIVATION)
    if GATED:
        acc *= acc_up
    if residual_ptr is not None:
        acc += tl.load(residual_ptr + offs_residual, mask=mask).to(tl.float32)
    return acc


@triton.jit(do_not_specialize=["batch", "time", "store_programs"])
def convolution(
    x_ptr, w_ptr, bias_ptr, residual_ptr, turns_ptr, amplitude_ptr, before_snake_ptr, out_ptr, state_ptr,
    slots_ptr, stride_state, state_start, next_state_start, batch, time, stride_tap, pad, residual_pad,
    next_pad, store_programs, eps,
    CHANNELS: tl.constexpr, K: tl.constexpr, N: tl.constexpr, CONTIGUOUS: tl.constexpr, NORMED: tl.constexpr,
    GATED: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, COPY: tl.constexpr,
):  # fmt: skip
    """The first programs store and load conv states: they end while the others still wait for weights.

    ``stride_tap``: values from a tap to the next. ``pad``, ``residual_pad``, ``next_pad``: how many values of
    conv state a row of ``x_ptr``, ``residual_ptr``, ``out_ptr`` has. ``CONTIGUOUS``: a window is contiguous.
    """
    program = tl.program_id(0)
    stride_x = pad + time * CHANNELS
    stride_out = next_pad + time * N
    load_programs = batch * tl.cdiv(next_pad, COPY)
    if program < store_programs:
        copy_state(program, x_ptr, stride_x, pad, state_ptr, stride_state, state_start, slots_ptr, True, COPY)
    elif program < store_programs + load_programs:
        copy_state(
            program - store_programs, out_ptr, stride_out, next_pad,
            state_ptr, stride_state, next_state_start, slots_ptr, False, COPY,
        )  # fmt: skip
    else:
        tile = program - store_programs - load_programs
        blocks_n = tl.cdiv(N, BLOCK_N)
        m = (tile // blocks_n) * BLOCK_M + tl.arange(0, BLOCK_M)
        n = (tile % blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)
        mask_n = n < N
        mask = (m < batch * time)[:, None] & mask_n[None, :]
        # Beyond the last row and column the last tile reads others again, and does not write.
        m = tl.minimum(m, batch * time - 1)
        b, t = (m // time).to(tl.int64), m % time
        acc, acc_up = _product(
            x_ptr, w_ptr, b * stride_x + t * CHANNELS, tl.minimum(n, N - 1), stride_tap, eps,
            CHANNELS, K, N, CONTIGUOUS, NORMED, GATED, BLOCK_K,
        )  # fmt: skip
        offs = (b * (residual_pad + time * N) + residual_pad + t * N)[:, None] + n[None, :]
        acc = _epilogue(acc, acc_up, bias_ptr, n, mask_n, residual_ptr, offs, mask, GATED, ACTIVATION)
        rounded = acc.to(out_ptr.dtype.element_ty)
        if before_snake_ptr is not None:
            offs_m = m.to(tl.int64) * N
            tl.store(before_snake_ptr + (offs_m[:, None] + n[None, :]), rounded, mask=mask)
        if turns_ptr is not None:
            acc = snake(
                rounded.to(tl.float32),
                tl.load(turns_ptr + n, mask=mask_n)[None, :],
                tl.load(amplitude_ptr + n, mask=mask_n)[None, :],
            )
            rounded = acc.to(out_ptr.dtype.element_ty)
        offs_m = b * stride_out + next_pad + t * N
        tl.store(out_ptr + (offs_m[:, None] + n[None, :]), rounded, mask=mask)


class TritonConvolution:
    """``weight``: [N, K]; twice as many outputs, if the first half is ``gated`` by its activation.

    ``region``: of the conv state, for its input. ``rate``: how many samples its outputs are. ``eps``: rows of
    the input are divided by their root mean square first. ``follow_with`` tells it the next leaf.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        taps: int = 1,
        dilation: int = 1,
        region: StateRegion = NO_STATE,
        rate: int = 1,
        steps_per_frame: int = 1,
        activation: int = NOTHING,
        gated: bool = False,
        eps: float | None = None,
    ) -> None:
        self.weight = weight.contiguous()
        self.bias = bias
        self._taps, self._dilation, self._region, self._rate = taps, dilation, region, rate
        self._tile = tile_of(steps_per_frame, weight.dtype)
        self._activation, self._gated, self._eps = activation, gated, eps
        self._outputs = len(weight) // (2 if gated else 1)
        self.follow_with(Following())

    @classmethod
    def of(cls, conv: CausalConv, steps_per_frame: int = 1) -> "TritonConvolution":
        return cls(
            conv.weight,
            conv.bias,
            taps=conv.kernel,
            dilation=conv.dilation,
            region=conv.region,
            rate=conv.rate,
            steps_per_frame=steps_per_frame,
        )

    def follow_with(self, following: Following) -> None:
        """The next leaf's snake becomes part of this one's launch, and the loading of its conv state."""
        self._following = following
        self._turns: Tensor | None = None
        self._amplitude: Tensor | None = None
        if (following_snake := following.snake) is not None:
            # Outputs beyond the channels are further samples of the same channels.
            times = self._outputs // len(following_snake.frequency)
            self._turns = (following_snake.frequency.double() / pi).float().repeat(times).contiguous()
            self._amplitude = following_snake.amplitude.repeat(times).contiguous()

    def __call__(
        self, x: PaddedFeatures, call: CodecCall, /, residual: PaddedFeatures | None = None
    ) -> PaddedFeatures:
        """[B, length + T, C] → [B, the next length + T * rate, O], plus ``residual`` [B, …, O]."""
        time, channels = x.time * self._rate, self._outputs // self._rate
        out = new_features(x.values, time, channels, self._following.region.length)
        if self._following.is_residual and self._following.snake is not None:
            before_snake = new_features(x.values, time, channels, 0).values
            out = PaddedFeatures(out.values, out.length, before_snake)
        self._launch(x, call, residual, out)
        return out

    def _launch(
        self, x: PaddedFeatures, call: CodecCall, residual: PaddedFeatures | None, out: PaddedFeatures
    ) -> None:
        batch, tile, following = len(x.values), self._tile, self._following.region
        store_programs = batch * state_programs(self._region)
        tiles = triton.cdiv(batch * x.time, tile.block_m) * triton.cdiv(self._outputs, tile.block_n)
        added, added_pad = (None, 0) if residual is None else (residual.values, residual.pad)
        if residual is not None and residual.before_snake is not None:
            added, added_pad = residual.before_snake, 0
        channels = self.weight.shape[1] // self._taps
        convolution[(store_programs + batch * state_programs(following) + tiles,)](
            x.values, self.weight, self.bias, added, self._turns, self._amplitude, out.before_snake,
            out.values, call.conv_state, call.slots, call.conv_state.stride(0), self._region.start,
            following.start, batch, x.time, self._dilation * channels, x.pad, added_pad, out.pad,
            store_programs, self._eps or 0.0,
            CHANNELS=channels, K=self.weight.shape[1], N=self._outputs,
            CONTIGUOUS=self._taps == 1 or self._dilation == 1, NORMED=self._eps is not None,
            GATED=self._gated, ACTIVATION=self._activation, BLOCK_M=tile.block_m, BLOCK_N=tile.block_n,
            BLOCK_K=tile.block_k, COPY=COPY_BLOCK, num_warps=tile.warps, num_stages=tile.stages,
            maxnreg=tile.registers,
        )  # fmt: skip
