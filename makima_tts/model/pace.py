"""When a long computation should let others in.

In: how much work was done. Out: whether a slice is full. Does not know: clocks, what the work is.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Of one computation. ``budget``: multiply-adds in a slice, or as much work of other kinds."""

    budget: int
    spent: int = 0

    def rows(self, work_per_row: int) -> int:
        """How many rows fill a slice; at least one."""
        return max(1, self.budget // work_per_row)

    def full(self, work: int) -> bool:
        """Count this work. True when it fills the slice, and the next one begins."""
        self.spent += work
        if self.spent < self.budget:
            return False
        self.spent = 0
        return True
