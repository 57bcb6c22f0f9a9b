"""Which connections share a contractId: one conversation that is silenced together.

In: joins, leaves, interrupts. Out: how many utterances were silenced. Does not know: what a connection is.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Protocol


class Interruptible(Protocol):
    """A member of a contract."""

    def interrupt(self) -> int:
        """Silence what is speaking and queued; returns how many utterances that were."""
        ...


class Contracts:
    """A connection is a member of at most one contract."""

    def __init__(self) -> None:
        self._members: defaultdict[str, set[Interruptible]] = defaultdict(set)
        self._contract_of: dict[Interruptible, str] = {}

    def join(self, member: Interruptible, contract_id: str | None) -> None:
        """Leaves any contract joined before; None joins none."""
        self.leave(member)
        if contract_id is None:
            return
        self._members[contract_id].add(member)
        self._contract_of[member] = contract_id

    def leave(self, member: Interruptible) -> None:
        contract_id = self._contract_of.pop(member, None)
        if contract_id is None:
            return
        self._members[contract_id].discard(member)
        if not self._members[contract_id]:
            del self._members[contract_id]

    def interrupt(self, contract_id: str) -> int:
        """Silences every member; unknown contracts have none."""
        members: Collection[Interruptible] = self._members.get(contract_id, ())
        return sum(member.interrupt() for member in tuple(members))
