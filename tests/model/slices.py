"""Drives computations that are generators: they yield between slices of work.

In: generators. Out: what they return. Does not know: what is computed.
"""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def finished(work: Generator[None, None, Result]) -> Result:
    """What it comes to when nothing else is done meanwhile."""
    return taken_turns(work)[0]


def slices(work: Generator[None, None, object]) -> int:
    """How many times it lets others in."""
    return sum(1 for _ in work)


def taken_turns(*works: Generator[None, None, Result]) -> list[Result]:
    """What each comes to when they take turns, a slice at a time."""
    results: dict[int, Result] = {}
    while len(results) < len(works):
        for index, work in enumerate(works):
            if index not in results:
                try:
                    next(work)
                except StopIteration as end:
                    results[index] = end.value
    return [results[index] for index in range(len(works))]
