"""Cells of a state table: the method that answers an input, and the transitions that it may make."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from makima_tts.session.effects import Effect

Machine = TypeVar("Machine")
State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event")
# The effects of an input, in order, and the state after it.
Step = tuple[list[Effect], State]


class Cell(NamedTuple, Generic[Machine, State]):
    """``method`` stays in its state or goes to one of ``leads_to``. An input without a cell has no effect."""

    method: Callable[[Machine, Any, int], Step[State]]
    leads_to: tuple[State, ...]

    def check(self, state: State, following: State) -> State:
        """``following``, if the cell allows it after ``state``; else the table is wrong, not the client."""
        if following is not state and following not in self.leads_to:
            raise AssertionError(
                f"{self.method.__qualname__} went from {state} to {following}: not in its cell"
            )
        return following


def on(
    event: type[Event], method: Callable[[Machine, Event, int], Step[State]], *leads_to: State
) -> dict[type, Cell[Machine, State]]:
    """A row of one cell; rows are joined by ``|``. ``method`` takes the machine, the event and now_ms."""
    return {event: Cell(method, leads_to)}
