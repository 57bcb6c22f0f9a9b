"""What the codec's decoder remembers between calls: one arena, a row for every slot.

In: slots. Out: the state of some of them, to compute with or to keep. Does not know: what the numbers mean to
the layers, who speaks in a slot.

S slots · B batch rows · N values that convolutions keep · L layers · K key heads · R frames in the ring ·
T time · C channels · D head size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CodecState:
    """All zeros is the beginning of sound.

    ``position``: int64 [S], frames decoded so far. ``history``: [S, N], the last inputs of every convolution.
    ``keys_values``: [S, L, 2, K, R, D], rotated keys and values of the last frames; the one of frame f is at
    f modulo R.
    """

    position: Tensor
    history: Tensor
    keys_values: Tensor

    def reset(self, slots: Tensor) -> None:
        """``slots``: int64 [n]. Zeros everything, so that not even a NaN outlives its sound."""
        for field in fields(self):
            getattr(self, field.name).index_fill_(0, slots, 0)

    def row(self, slot: int) -> dict[str, Tensor]:
        """A copy of one slot's state by name, on the state's device."""
        return {field.name: getattr(self, field.name)[slot].clone() for field in fields(self)}

    def put_row(self, slot: int, row: Mapping[str, Tensor]) -> None:
        """Let ``slot`` go on where ``row`` was taken; it may come from another device or precision.

        Raises ValueError when the row is of a state of other sizes.
        """
        for field in fields(self):
            kept, place = row[field.name], getattr(self, field.name)[slot]
            if kept.shape != place.shape:
                raise ValueError(f"{field.name} is {list(kept.shape)}, but here it is {list(place.shape)}")
            place.copy_(kept)


@dataclass(frozen=True, slots=True)
class Past:
    """Where in ``history`` the last ``length`` inputs of one convolution lie."""

    start: int
    length: int
    channels: int

    def prepend(self, x: Tensor, history: Tensor) -> Tensor:
        """x [B, T, C] → [B, length + T, C]; the last ``length`` of that become the past in history [B, N]."""
        if self.length == 0:
            return x
        end = self.start + self.length * self.channels
        past = history[:, self.start : end].view(len(x), self.length, self.channels)
        longer = torch.cat((past, x), dim=1)  # [B, length + T, C]
        past.copy_(longer[:, -self.length :])
        return longer


@dataclass(slots=True)
class HistoryPlan:
    """Deals out places in ``history`` while layers are loaded; ``size`` is N in the end."""

    size: int = 0

    def reserve(self, length: int, channels: int) -> Past:
        past = Past(self.size, length, channels)
        self.size += length * channels
        return past
