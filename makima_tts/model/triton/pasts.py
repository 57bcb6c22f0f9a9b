"""How a convolution comes by its past and leaves it behind: in the launches that compute, by programs beside.

In: the arena, a convolution's input. Out: the input with its past before it; the arena, advanced. Does not
know: what is convolved.

B batch rows · T time · C channels · S slots · N values of history.

The input of a convolution is allocated with room for its past, [B, length + T, C]. Who computes the input
fetches the past into that room; the convolution then reads one plain stretch of memory. While it does, the
stretch's last ``length`` are put into the arena, which nobody reads in that launch: an old past has been
fetched before, in full, also where it is longer than T and remains in part.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.codec_state import CodecState, Past

# Values that one program copies.
COPIED = 8192

NO_PAST = Past(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Arena:
    """Row b of a batch has its pasts in history[slots[b]]. ``history``: [S, N], ``slots``: int64 [B]."""

    history: Tensor
    slots: Tensor

    @classmethod
    def of(cls, state: CodecState, slots: Tensor) -> "Arena":
        return cls(state.history, slots.contiguous())


@dataclass(frozen=True, slots=True)
class Stretch:
    """``values``: [B, past + T, C]."""

    values: Tensor
    past: int = 0

    @classmethod
    def empty(cls, like: Tensor, time: int, channels: int, past: int) -> "Stretch":
        """For as many rows as ``like`` has."""
        shape = (len(like), past + time, channels)
        return cls(torch.empty(shape, dtype=like.dtype, device=like.device), past)

    @property
    def time(self) -> int:
        return self.values.shape[1] - self.past

    @property
    def room(self) -> int:
        """How many values of a row are its past's."""
        return self.past * self.values.shape[2]


def copies(past: Past) -> int:
    """Programs for one row's past."""
    return -(-past.length * past.channels // COPIED)


@triton.jit
def keep_past(
    program: tl.tensor,
    x: tl.tensor,
    size: tl.tensor,
    room: tl.tensor,
    arena: tl.tensor,
    stride: tl.tensor,
    at: tl.tensor,
    slots: tl.tensor,
    copied: tl.constexpr,
) -> None:
    """``x``: rows of ``size`` values, whose last ``room`` are the past from now on, ``at`` in the arena."""
    blocks = tl.cdiv(room, copied)
    row, value = (program // blocks).to(tl.int64), (program % blocks) * copied + tl.arange(0, copied)
    source = x + row * size + size - room
    place = arena + tl.load(slots + row) * stride + at
    tl.store(place + value, tl.load(source + value, mask=value < room), mask=value < room)


@triton.jit
def fetch_past(
    program: tl.tensor,
    x: tl.tensor,
    size: tl.tensor,
    room: tl.tensor,
    arena: tl.tensor,
    stride: tl.tensor,
    at: tl.tensor,
    slots: tl.tensor,
    copied: tl.constexpr,
) -> None:
    """``x``: rows of ``size`` values, whose first ``room`` are to be what is ``at`` in the arena."""
    blocks = tl.cdiv(room, copied)
    row, value = (program // blocks).to(tl.int64), (program % blocks) * copied + tl.arange(0, copied)
    source = arena + tl.load(slots + row) * stride + at
    tl.store(x + row * size + value, tl.load(source + value, mask=value < room), mask=value < room)
