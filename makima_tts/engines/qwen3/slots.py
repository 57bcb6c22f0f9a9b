"""Batch rows, leased.

In: wishes for a row, returns. Out: leases. Does not know: what lies in a row.

The lowest free row is leased first, so that memory is touched as late as it can be.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    """``generation`` tells one tenant of a slot from the next."""

    slot: int
    generation: int


class Slots:
    """Engine thread only."""

    def __init__(self, count: int) -> None:
        self._free = set(range(count))
        self._generations = [0] * count

    def lease(self) -> Lease | None:
        """None when all are taken."""
        if not self._free:
            return None
        slot = min(self._free)
        self._free.remove(slot)
        self._generations[slot] += 1
        return Lease(slot, self._generations[slot])

    def release(self, lease: Lease) -> None:
        """Idempotent: a lease that is over changes nothing."""
        if self._generations[lease.slot] == lease.generation:
            self._generations[lease.slot] += 1
            self._free.add(lease.slot)
