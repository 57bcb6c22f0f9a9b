"""Causal convolutions, and products as a special case: one launch from input to the next one's input.

In: a stretch of features with the past before it, the arena. Out: the stretch that the next convolution
reads; the arena, advanced. Does not know: codes, frames, who is in a slot.

B batch rows · T time · C channels in · K taps · O outputs · M = B * T rows · I = K * C inputs of an output.

A convolution is the product of its windows [M, K * C] and its weight, and a window is never copied: channels
come last, so that a tap is an offset. How many rows, outputs and inputs a block has follows from the layer
alone: no row's bits depend on how many others there are, or on how a stream is cut into calls.
"""

from dataclasses import dataclass
from math import pi

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_layers import CausalConv, Convolution, Snake, Upsampling
from makima_tts.model.codec_state import Past
from makima_tts.model.triton.activations import NOTHING, activated, snake
from makima_tts.model.triton.pasts import COPIED, NO_PAST, Arena, Stretch, copies, fetch_past, keep_past


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program computes, ``inputs`` at a time, ``stages`` of them in flight.

    ``registers``: of a thread at most, so that two programs fit into a processor.
    """

    rows: int
    outputs: int
    inputs: int
    warps: int
    stages: int
    registers: int | None = None


# In bytes that one stage takes of shared memory: 16, 24 and 32 K, so that 99 K are enough.
_NARROW = Tile(64, 64, 64, 4, 4)
_WIDE = Tile(64, 128, 64, 4, 4)
_LARGE = Tile(128, 128, 64, 8, 3, registers=128)
# Without tensor cores, and with numbers twice as wide.
_EXACT = Tile(64, 64, 64, 4, 2)
_EXACT_LARGE = Tile(128, 64, 64, 8, 2)


def tile_of(pace: int, dtype: torch.dtype) -> Tile:
    """``pace``: rows that one frame of one stream is.

    Few rows: what counts is how fast weights arrive, so there should be many programs. Many: how often rows
    are read, and a tile reads each of its rows and weights once.
    """
    if dtype == torch.float32:
        return _EXACT if pace < 64 else _EXACT_LARGE
    if pace < 16:
        return _NARROW
    return _WIDE if pace < 64 else _LARGE


@dataclass(frozen=True, slots=True)
class Sines:
    """A snake, for every output. ``turns``: its frequency over π; float32 [O] both."""

    turns: Tensor
    amplitude: Tensor

    @classmethod
    def of(cls, of: Snake, outputs: int) -> "Sines":
        """Outputs beyond the channels are further samples of the same channels."""
        times = outputs // len(of.frequency)
        turns = (of.frequency.double() / pi).float()
        return cls(turns.repeat(times).contiguous(), of.amplitude.repeat(times).contiguous())


@dataclass(frozen=True, slots=True)
class Next:
    """What the next convolution asks for: its snake applied, room for its past, and that fetched."""

    snake: Snake | None = None
    past: Past = NO_PAST


@dataclass(frozen=True, slots=True)
class Made:
    """``features``: to be added to; ``stretch``: for the next. The same, if no snake is between them."""

    features: Stretch
    stretch: Stretch


@triton.jit
def _product(
    x: tl.tensor,
    weight: tl.tensor,
    at: tl.tensor,
    outputs: tl.tensor,
    step: tl.tensor,
    eps: tl.tensor,
    channels: tl.constexpr,
    inputs: tl.constexpr,
    of: tl.constexpr,
    plain: tl.constexpr,
    normed: tl.constexpr,
    gated: tl.constexpr,
    block: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Rows ``at`` an offset each, by some ``outputs`` of the weight: two sums; one may be nothing."""
    total = tl.zeros((at.shape[0], outputs.shape[0]), tl.float32)
    other = total
    squares = tl.zeros((at.shape[0],), tl.float32)
    lanes = tl.arange(0, block)
    for start in range(0, inputs, block):
        taken = start + lanes
        offset = taken if plain else (taken // channels) * step + taken % channels
        rows = x + (at[:, None] + offset[None, :])
        columns = weight + (outputs[None, :] * inputs + taken[:, None])
        if inputs % block == 0:
            features, weights = tl.load(rows), tl.load(columns)
        else:
            here = taken < inputs
            features = tl.load(rows, mask=here[None, :], other=0.0)
            weights = tl.load(columns, mask=here[:, None], other=0.0)
        total = tl.dot(features, weights, total, input_precision="ieee")
        if gated:
            columns += of * inputs
            if inputs % block == 0:
                weights = tl.load(columns)
            else:
                weights = tl.load(columns, mask=here[:, None], other=0.0)
            other = tl.dot(features, weights, other, input_precision="ieee")
        if normed:
            wide = features.to(tl.float32)
            squares += tl.sum(wide * wide, axis=1)
    if normed:
        scale = tl.rsqrt(squares / inputs + eps)[:, None]
        total, other = total * scale, other * scale
    return total, other


@triton.jit
def _finished(
    made: tl.tensor,
    other: tl.tensor,
    bias: tl.tensor,
    column: tl.tensor,
    here: tl.tensor,
    beside: tl.tensor,
    place: tl.tensor,
    mask: tl.tensor,
    gated: tl.constexpr,
    activation: tl.constexpr,
) -> tl.tensor:
    """Sums, with all that is done to them before anybody reads them."""
    if bias is not None:
        made += tl.load(bias + column, mask=here)[None, :].to(tl.float32)
    if activation:
        made = activated(made, activation)
    if gated:
        made *= other
    if beside is not None:
        made += tl.load(beside + place, mask=mask).to(tl.float32)
    return made


@triton.jit(do_not_specialize=["batch", "time", "keepers"])
def convolution(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    beside: tl.tensor,
    turns: tl.tensor,
    amplitude: tl.tensor,
    features: tl.tensor,
    stretch: tl.tensor,
    arena: tl.tensor,
    slots: tl.tensor,
    arena_stride: tl.tensor,
    kept_at: tl.tensor,
    fetched_at: tl.tensor,
    batch: tl.tensor,
    time: tl.tensor,
    step: tl.tensor,
    room: tl.tensor,
    beside_room: tl.tensor,
    next_room: tl.tensor,
    keepers: tl.tensor,
    eps: tl.tensor,
    channels: tl.constexpr,
    inputs: tl.constexpr,
    outputs: tl.constexpr,
    plain: tl.constexpr,
    normed: tl.constexpr,
    gated: tl.constexpr,
    activation: tl.constexpr,
    rows_block: tl.constexpr,
    outputs_block: tl.constexpr,
    inputs_block: tl.constexpr,
    copied: tl.constexpr,
) -> None:
    """First the programs that keep and fetch pasts: they are done while others still wait for weights.

    ``step``: values from a tap to the next. ``room``, ``beside_room``, ``next_room``: how many values the
    pasts of a row of ``x``, ``beside``, ``stretch`` have. ``plain``: a window is one piece of memory.
    """
    program = tl.program_id(0)
    size = room + time * channels
    next_size = next_room + time * outputs
    fetchers = batch * tl.cdiv(next_room, copied)
    if program < keepers:
        keep_past(program, x, size, room, arena, arena_stride, kept_at, slots, copied)
    elif program < keepers + fetchers:
        fetch_past(
            program - keepers, stretch, next_size, next_room, arena, arena_stride, fetched_at, slots, copied
        )
    else:
        tile = program - keepers - fetchers
        across = tl.cdiv(outputs, outputs_block)
        row = (tile // across) * rows_block + tl.arange(0, rows_block)
        column = (tile % across) * outputs_block + tl.arange(0, outputs_block)
        here = column < outputs
        mask = (row < batch * time)[:, None] & here[None, :]
        # The last tile's rows and columns that are not there read others again, and are not written.
        row = tl.minimum(row, batch * time - 1)
        b, t = (row // time).to(tl.int64), row % time
        made, other = _product(
            x, weight, b * size + t * channels, tl.minimum(column, outputs - 1), step, eps,
            channels, inputs, outputs, plain, normed, gated, inputs_block,
        )  # fmt: skip
        place = (b * (beside_room + time * outputs) + beside_room + t * outputs)[:, None] + column[None, :]
        made = _finished(made, other, bias, column, here, beside, place, mask, gated, activation)
        rounded = made.to(stretch.dtype.element_ty)
        if features is not None:
            place = row.to(tl.int64) * outputs
            tl.store(features + (place[:, None] + column[None, :]), rounded, mask=mask)
        if turns is not None:
            made = snake(
                rounded.to(tl.float32),
                tl.load(turns + column, mask=here)[None, :],
                tl.load(amplitude + column, mask=here)[None, :],
            )
            rounded = made.to(stretch.dtype.element_ty)
        place = b * next_size + next_room + t * outputs
        tl.store(stretch + (place[:, None] + column[None, :]), rounded, mask=mask)


@dataclass(frozen=True, slots=True)
class FusedConvolution:
    """``weight``: [O, I]; twice as many outputs, if the first half is a ``gate`` of the second.

    ``past``: of its input. ``rate``: how many samples its outputs are. ``keeps``: somebody will add to what
    it comes to before the next one's snake. ``normed``: every row of the input comes to a mean square of 1
    first, but for ``eps``.
    """

    weight: Tensor
    bias: Tensor | None
    taps: int
    dilation: int
    tile: Tile
    past: Past = NO_PAST
    rate: int = 1
    next: Next = Next()
    keeps: bool = False
    activation: int = NOTHING
    gate: bool = False
    eps: float | None = None
    sines: Sines | None = None

    @classmethod
    def of(
        cls, conv: Convolution, pace: int, following: Next, *, keeps: bool = False, rate: int = 1
    ) -> "FusedConvolution":
        if not isinstance(conv, CausalConv):
            raise TypeError("this convolution is not one of torch's")
        return cls(
            weight=conv.weight.contiguous(),
            bias=conv.bias,
            taps=conv.kernel,
            dilation=conv.dilation,
            tile=tile_of(pace, conv.weight.dtype),
            past=conv.past,
            rate=rate,
            next=following,
            keeps=keeps,
            sines=None if following.snake is None else Sines.of(following.snake, len(conv.weight)),
        )

    @classmethod
    def rising(
        cls, upsampling: Upsampling, pace: int, following: Next, *, keeps: bool = False
    ) -> "FusedConvolution":
        return cls.of(upsampling.conv, pace, following, keeps=keeps, rate=upsampling.rate)

    @property
    def outputs(self) -> int:
        return len(self.weight) // (2 if self.gate else 1)

    @property
    def channels(self) -> int:
        return self.weight.shape[1] // self.taps

    def __call__(self, x: Stretch, arena: Arena, beside: Stretch | None = None) -> Made:
        """[B, past + T, C] → [B, the next one's past + T * rate, O / rate], plus ``beside`` [B, …, O]."""
        time, width = x.time * self.rate, self.outputs // self.rate
        stretch = Stretch.empty(x.values, time, width, self.next.past.length)
        features = stretch
        if self.keeps and self.sines is not None:
            features = Stretch.empty(x.values, time, width, 0)
        self._launch(x, arena, beside, Made(features, stretch))
        return Made(features, stretch)

    def _launch(self, x: Stretch, arena: Arena, beside: Stretch | None, made: Made) -> None:
        batch, tile, sines, following = len(x.values), self.tile, self.sines, self.next.past
        keepers = batch * copies(self.past)
        tiles = triton.cdiv(batch * x.time, tile.rows) * triton.cdiv(self.outputs, tile.outputs)
        convolution[(keepers + batch * copies(following) + tiles,)](
            x.values,
            self.weight,
            self.bias,
            None if beside is None else beside.values,
            None if sines is None else sines.turns,
            None if sines is None else sines.amplitude,
            None if made.features is made.stretch else made.features.values,
            made.stretch.values,
            arena.history,
            arena.slots,
            arena.history.stride(0),
            self.past.start,
            following.start,
            batch,
            x.time,
            self.dilation * self.channels,
            x.room,
            0 if beside is None else beside.room,
            made.stretch.room,
            keepers,
            self.eps or 0.0,
            channels=self.channels,
            inputs=self.weight.shape[1],
            outputs=self.outputs,
            plain=self.taps == 1 or self.dilation == 1,
            normed=self.eps is not None,
            gated=self.gate,
            activation=self.activation,
            rows_block=tile.rows,
            outputs_block=tile.outputs,
            inputs_block=tile.inputs,
            copied=COPIED,
            num_warps=tile.warps,
            num_stages=tile.stages,
            maxnreg=tile.registers,
        )
