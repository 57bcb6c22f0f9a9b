"""Where graphs find what they are to work on: tensors that stay where they are.

In: numbers of the host, filled up to a bucket. Out: the tensors that hold them. Does not know: graphs, what
is computed.

B of a bucket · M prompt rows of a bucket · E hidden size. Numbers that belong together are sent together:
those of a bucket lie one after the other, so that one copy brings them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from makima_tts.model.transfers import send_into


class Pairs:
    """Slots, and a number for each: int64 [B] both. ``spare`` fills up."""

    def __init__(self, most: int, spare: int, device: torch.device) -> None:
        self._spare = spare
        self._numbers = torch.cat((torch.full((most,), spare), torch.zeros(most, dtype=torch.int64))).to(
            device
        )

    def fill(self, slots: Sequence[int], numbers: Sequence[int], size: int) -> None:
        missing = size - len(slots)
        row = [*slots, *[self._spare] * missing, *numbers, *[0] * missing]
        send_into(self._numbers[: 2 * size], torch.tensor(row))

    def of(self, size: int) -> tuple[Tensor, Tensor]:
        """Views: they show whatever was filled in last, for this size."""
        return self._numbers[:size], self._numbers[size : 2 * size]
