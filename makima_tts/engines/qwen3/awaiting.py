"""What was started on a device: its result when it is there, and how long the device took.

In: launches. Out: results, seconds. Does not know: what is launched.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

Result = TypeVar("Result")
_Made_co = TypeVar("_Made_co", covariant=True)

# Starts work and returns what fetches its result, once it has ended.
Launch = Callable[[], Callable[[], Result]]


class Awaited(Protocol[_Made_co]):
    """``wait`` may be called once; ``seconds`` are known from then on, without what was started before."""

    @property
    def seconds(self) -> float: ...

    def wait(self) -> _Made_co: ...


@dataclass(frozen=True, slots=True)
class _Ready(Generic[Result]):
    result: Result
    seconds: float

    def wait(self) -> Result:
        return self.result


@dataclass(frozen=True, slots=True)
class _OnDevice(Generic[Result]):
    began: torch.cuda.Event
    ended: torch.cuda.Event
    fetch: Callable[[], Result]

    @property
    def seconds(self) -> float:
        return float(self.began.elapsed_time(self.ended)) / 1e3

    def wait(self) -> Result:
        self.ended.synchronize()
        return self.fetch()


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def start_here(launch: Launch[Result]) -> Awaited[Result]:
    """It has ended when this returns."""
    began_s = time.perf_counter()
    result = launch()()
    return _Ready(result, time.perf_counter() - began_s)


def start_on_cuda(launch: Launch[Result]) -> Awaited[Result]:
    """Returns as soon as it was launched; the host may do something else meanwhile."""
    began, ended = _event(), _event()
    began.record()
    fetch = launch()
    ended.record()
    return _OnDevice(began, ended, fetch)
