"""Where the codec's decoder begins and ends: codes become features, features become samples.

In: codes, or the last features. Out: a stretch for the first convolution, or samples; pasts and positions in
the arena, advanced. Does not know: what lies between.

B batch rows · F frames · Q codebooks · V codes in a codebook · T time · C channels · K taps.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_layers import CausalConv
from makima_tts.model.codec_state import CodecState, Past
from makima_tts.model.triton.pasts import COPIED, Arena, Stretch, copies, fetch_past, keep_past

# Samples of one program: enough programs for one frame, each with enough to wait for at once.
_SAMPLES = 64


@triton.jit(do_not_specialize=["row_stride", "frame_stride", "batch", "frames"])
def sum_of_codes(
    codes: tl.tensor,
    row_stride: tl.tensor,
    frame_stride: tl.tensor,
    table: tl.tensor,
    stretch: tl.tensor,
    arena: tl.tensor,
    slots: tl.tensor,
    arena_stride: tl.tensor,
    fetched_at: tl.tensor,
    batch: tl.tensor,
    frames: tl.tensor,
    room: tl.tensor,
    codebooks: tl.constexpr,
    size: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
    copied: tl.constexpr,
) -> None:
    """A program for every row and frame."""
    program = tl.program_id(0)
    fetchers = batch * tl.cdiv(room, copied)
    width = room + frames * channels
    if program < fetchers:
        fetch_past(program, stretch, width, room, arena, arena_stride, fetched_at, slots, copied)
    else:
        row, frame = (program - fetchers) // frames, (program - fetchers) % frames
        channel = tl.arange(0, block)
        total = tl.zeros((block,), tl.float32)
        for codebook in range(codebooks):
            code = tl.load(codes + row.to(tl.int64) * row_stride + frame * frame_stride + codebook)
            # What is no code is of a row that is nobody's, or the end of speech; it is not to be read there.
            code = tl.minimum(tl.maximum(code, 0), size - 1) + codebook * size
            total += tl.load(table + code * channels + channel, mask=channel < channels, other=0.0)
        place = stretch + row.to(tl.int64) * width + room + frame * channels + channel
        tl.store(place, total.to(stretch.dtype.element_ty), mask=channel < channels)


@dataclass(frozen=True, slots=True)
class CodeSums:
    """As Codebooks. ``table``: [Q * V, C]; ``past``: of the convolution after it."""

    table: Tensor
    codebooks: int
    past: Past

    def __call__(self, codes: Tensor, arena: Arena) -> Stretch:
        """int64 [B, F, Q] → [B, past + F, C]."""
        codes = codes if codes.stride(2) == 1 else codes.contiguous()
        (batch, frames, _), channels = codes.shape, self.table.shape[1]
        stretch = Stretch(self.table.new_empty(batch, self.past.length + frames, channels), self.past.length)
        sum_of_codes[(batch * (copies(self.past) + frames),)](
            codes,
            codes.stride(0),
            codes.stride(1),
            self.table,
            stretch.values,
            arena.history,
            arena.slots,
            arena.history.stride(0),
            self.past.start,
            batch,
            frames,
            stretch.room,
            codebooks=self.codebooks,
            size=len(self.table) // self.codebooks,
            channels=channels,
            block=triton.next_power_of_2(channels),
            copied=COPIED,
        )
        return stretch


@triton.jit(do_not_specialize=["batch", "time", "frames", "keepers"])
def last_convolution(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    samples: tl.tensor,
    arena: tl.tensor,
    slots: tl.tensor,
    arena_stride: tl.tensor,
    kept_at: tl.tensor,
    positions: tl.tensor,
    batch: tl.tensor,
    time: tl.tensor,
    frames: tl.tensor,
    room: tl.tensor,
    keepers: tl.tensor,
    channels: tl.constexpr,
    taps: tl.constexpr,
    times: tl.constexpr,
    block: tl.constexpr,
    copied: tl.constexpr,
) -> None:
    """One output: sums of products, and no matrix."""
    program = tl.program_id(0)
    size = room + time * channels
    if program < keepers:
        keep_past(program, x, size, room, arena, arena_stride, kept_at, slots, copied)
    elif program < keepers + batch:
        # Nobody reads a position any more: the transformer is through.
        position = positions + tl.load(slots + program - keepers)
        tl.store(position, tl.load(position) + frames)
    else:
        row = (program - keepers - batch) * times + tl.arange(0, times)
        channel = tl.arange(0, block)
        here = (row < batch * time)[:, None] & (channel < channels)[None, :]
        window = (row // time).to(tl.int64) * size + (row % time) * channels
        total = tl.zeros((times, block), tl.float32)
        for tap in range(taps):
            at = tap * channels + channel
            features = tl.load(x + (window[:, None] + at[None, :]), mask=here, other=0.0)
            weights = tl.load(weight + at, mask=channel < channels, other=0.0)
            total += features.to(tl.float32) * weights.to(tl.float32)[None, :]
        made = tl.sum(total, axis=1) + tl.load(bias).to(tl.float32)
        # Not as a minimum and a maximum: what is no number stays none.
        made = tl.where(made > 1.0, 1.0, tl.where(made < -1.0, -1.0, made))
        tl.store(samples + row, made, mask=row < batch * time)


@dataclass(frozen=True, slots=True)
class Samples:
    """The last convolution, with one output, and the advance of the positions."""

    conv: CausalConv

    def __call__(self, x: Stretch, arena: Arena, state: CodecState, frames: int) -> Tensor:
        """[B, past + T, C] → float32 [B, T], from -1 to 1."""
        past, batch = self.conv.past, len(x.values)
        samples = torch.empty(batch, x.time, device=x.values.device)
        keepers = batch * copies(past)
        last_convolution[(keepers + batch + triton.cdiv(batch * x.time, _SAMPLES),)](
            x.values,
            self.conv.weight,
            self.conv.bias,
            samples,
            arena.history,
            arena.slots,
            arena.history.stride(0),
            past.start,
            state.position,
            batch,
            x.time,
            frames,
            x.room,
            keepers,
            channels=past.channels,
            taps=self.conv.kernel,
            times=_SAMPLES,
            block=triton.next_power_of_2(past.channels),
            copied=COPIED,
        )
        return samples
