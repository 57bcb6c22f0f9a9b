"""ConvNeXt blocks: a launch for what mixes time, and one for each of the two products.

In: a stretch of features, the arena. Out: features; the arena, advanced. Does not know: what comes next.

B batch rows · T time · C channels · K taps.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_layers import LAYER_NORM_EPS, ConvNeXt, Convolution
from makima_tts.model.codec_state import Past
from makima_tts.model.triton.activations import GELU
from makima_tts.model.triton.convolutions import FusedConvolution, Next, tile_of
from makima_tts.model.triton.pasts import COPIED, Arena, Stretch, copies, keep_past


@triton.jit(do_not_specialize=["time", "keepers"])
def mixed_and_normed(
    x: tl.tensor,
    taps: tl.tensor,
    bias: tl.tensor,
    norm: tl.tensor,
    norm_bias: tl.tensor,
    made: tl.tensor,
    arena: tl.tensor,
    slots: tl.tensor,
    arena_stride: tl.tensor,
    kept_at: tl.tensor,
    time: tl.tensor,
    room: tl.tensor,
    keepers: tl.tensor,
    eps: tl.tensor,
    channels: tl.constexpr,
    count: tl.constexpr,
    block: tl.constexpr,
    copied: tl.constexpr,
) -> None:
    """A depthwise convolution and the norm of what it comes to: a program for every row and time."""
    program = tl.program_id(0)
    size = room + time * channels
    if program < keepers:
        keep_past(program, x, size, room, arena, arena_stride, kept_at, slots, copied)
    else:
        row = (program - keepers).to(tl.int64)
        channel = tl.arange(0, block)
        here = channel < channels
        window = x + (row // time) * size + (row % time) * channels + channel
        total = tl.zeros((block,), tl.float32)
        for tap in range(count):
            weights = tl.load(taps + tap * channels + channel, mask=here, other=0.0).to(tl.float32)
            total += tl.load(window + tap * channels, mask=here, other=0.0).to(tl.float32) * weights
        total += tl.load(bias + channel, mask=here, other=0.0).to(tl.float32)
        centred = tl.where(here, total - tl.sum(total, axis=0) / channels, 0.0)
        normed = centred * tl.rsqrt(tl.sum(centred * centred, axis=0) / channels + eps)
        normed *= tl.load(norm + channel, mask=here).to(tl.float32)
        normed += tl.load(norm_bias + channel, mask=here).to(tl.float32)
        tl.store(made + row * channels + channel, normed.to(made.dtype.element_ty), mask=here)


@dataclass(frozen=True, slots=True)
class FusedNext:
    """As ConvNeXt. ``taps``: [K, C], so that a program reads them in one piece."""

    taps: Tensor
    taps_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    past: Past
    widen: FusedConvolution
    narrow: FusedConvolution

    @classmethod
    def of(cls, block: Convolution, pace: int, following: Next) -> "FusedNext":
        if not isinstance(block, ConvNeXt):
            raise TypeError("this block is not one of torch's")
        tile = tile_of(pace, block.widen.dtype)
        return cls(
            taps=block.taps.T.contiguous(),
            taps_bias=block.taps_bias,
            norm=block.norm,
            norm_bias=block.norm_bias,
            past=block.past,
            widen=FusedConvolution(block.widen, block.widen_bias, 1, 1, tile, activation=GELU),
            narrow=FusedConvolution(block.narrow, block.narrow_bias, 1, 1, tile, next=following),
        )

    def __call__(self, x: Stretch, arena: Arena) -> Stretch:
        """[B, past + T, C] → [B, the next one's past + T, C]."""
        wide = self.widen(self._mixed(x, arena), arena).stretch
        return self.narrow(wide, arena, beside=x).stretch

    def _mixed(self, x: Stretch, arena: Arena) -> Stretch:
        batch, channels = len(x.values), x.values.shape[2]
        made, keepers = Stretch.empty(x.values, x.time, channels, 0), batch * copies(self.past)
        mixed_and_normed[(keepers + batch * x.time,)](
            x.values,
            self.taps,
            self.taps_bias,
            self.norm,
            self.norm_bias,
            made.values,
            arena.history,
            arena.slots,
            arena.history.stride(0),
            self.past.start,
            x.time,
            x.room,
            keepers,
            LAYER_NORM_EPS,
            channels=channels,
            count=len(self.taps),
            block=triton.next_power_of_2(channels),
            copied=COPIED,
        )
        return made
