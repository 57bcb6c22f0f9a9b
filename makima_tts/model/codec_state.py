"""The streaming state of the codec's decoder: one row for every slot, allocated once.

In: slots. Out: the state of some of them, to compute with or to store. Does not know: the layers, which
utterance has a slot.

S slots · B batch rows · N values of conv state · L layers · K key heads · R frames in the ring · T time ·
C channels · D head size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CodecState:
    """All zeros is the beginning of a stream.

    ``position``: int64 [S], frames decoded so far. ``conv_state``: [S, N], the last inputs of every
    convolution. ``keys_values``: [S, L, 2, K, R, D], rotated keys and values of the last frames; those of
    frame f are at f modulo R.
    """

    position: Tensor
    conv_state: Tensor
    keys_values: Tensor

    def reset(self, slots: Tensor) -> None:
        """``slots``: int64 [n]. Writes zeros, so that a NaN does not outlive its utterance."""
        for field in fields(self):
            getattr(self, field.name).index_fill_(0, slots, 0)

    def row(self, slot: int) -> dict[str, Tensor]:
        """A copy of one slot's state by name, on the state's device."""
        return {field.name: getattr(self, field.name)[slot].clone() for field in fields(self)}

    def put_row(self, slot: int, row: Mapping[str, Tensor]) -> None:
        """Continue in ``slot`` where ``row`` was copied; it may come from another device or precision.

        Raises ValueError when the row is of a state of other sizes.
        """
        for field in fields(self):
            source, target = row[field.name], getattr(self, field.name)[slot]
            if source.shape != target.shape:
                raise ValueError(f"{field.name} is {list(source.shape)}, but here it is {list(target.shape)}")
            target.copy_(source)


@dataclass(frozen=True, slots=True)
class CodecCall:
    """What every leaf of one call gets: the rows of the batch are ``frames`` frames each of ``slots``.

    ``slots``: int64 [B]. ``conv_state``: the rows of these slots, [B, N], or those of all, [S, N], where
    kernels index them by slot.
    """

    state: CodecState
    slots: Tensor
    frames: int
    conv_state: Tensor

    @classmethod
    def on_copy(cls, state: CodecState, slots: Tensor, frames: int) -> "CodecCall":
        """The conv state is gathered once for all leaves; ``commit`` puts it back."""
        return cls(state, slots, frames, state.conv_state.index_select(0, slots))

    @classmethod
    def in_place(cls, state: CodecState, slots: Tensor, frames: int) -> "CodecCall":
        return cls(state, slots.contiguous(), frames, state.conv_state)

    def commit(self) -> None:
        """Writes the copy back, and advances the positions."""
        self.state.conv_state.index_copy_(0, self.slots, self.conv_state)
        self.state.position.index_add_(0, self.slots, torch.full_like(self.slots, self.frames))


@dataclass(frozen=True, slots=True)
class StateRegion:
    """Where in the conv state the last ``length`` inputs of one convolution are."""

    start: int
    length: int
    channels: int

    @property
    def size(self) -> int:
        return self.length * self.channels

    def prepend(self, x: Tensor, conv_state: Tensor) -> Tensor:
        """x [B, T, C] → [B, length + T, C]; the last ``length`` of that become the state in [B, N]."""
        if self.length == 0:
            return x
        region = conv_state[:, self.start : self.start + self.size].view(len(x), self.length, self.channels)
        padded = torch.cat((region, x), dim=1)  # [B, length + T, C]
        region.copy_(padded[:, -self.length :])
        return padded


@dataclass(slots=True)
class StateLayout:
    """Assigns regions of the conv state while layers are loaded; ``size`` is N in the end."""

    size: int = 0

    def reserve(self, length: int, channels: int) -> StateRegion:
        region = StateRegion(self.size, length, channels)
        self.size += region.size
        return region
