"""What both sides of a comparison share: the same sounds and texts, a clock that waits for the device, and a
process that answers requests.

In: requests, a line of JSON each on stdin. Out: answers, a line of JSON each on stdout. Does not know: either
of the models. It runs in both environments, so it imports nothing of the package's.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import numpy as np
import torch

from bench.spoken import CLIP_S, LANGUAGE, SAMPLE_RATE_HZ, TEXT, TRANSCRIPT, clip

__all__ = ["CLIP_S", "LANGUAGE", "SAMPLE_RATE_HZ", "TEXT", "TRANSCRIPT", "clip"]

FRAME_MS = 80.0
# A chunk once the ramp of chunk sizes has been climbed.
CHUNK_FRAMES = 12

Figures = dict[str, float]


class Side(Protocol):
    """``measure`` a part, by name; its figures, whose names end with their units.

    ``size``: how many utterances together, or of whatever else there is more or less. A part that a side
    does not have has no figures.
    """

    def measure(self, part: str, size: int) -> Figures: ...


def frames_of(batch: int, frames: int) -> int:
    """How many steps of a batch tell enough: fewer of a large one, which takes its time."""
    return max(2, frames // batch)


class Clock:
    """Time on a device: what was started there has ended before a time is read."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now_ms(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() * 1e3

    @contextmanager
    def watching(self, owner: Any, name: str) -> Iterator[list[float]]:
        """The milliseconds of every call of this method, while the context lasts."""
        method, took_ms = getattr(owner, name), list[float]()

        def watched(*arguments: Any, **named: Any) -> Any:
            began_ms = self.now_ms()
            result = method(*arguments, **named)
            took_ms.append(self.now_ms() - began_ms)
            return result

        with mock.patch.object(owner, name, watched):
            yield took_ms

    def peak_mib(self) -> float:
        """The most memory so far: the device's if it has its own, else this process's."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def median(values: list[float]) -> float:
    return float(np.median(values))


def arguments() -> argparse.Namespace:
    """What a side is started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--slots", type=int, default=8)
    return parser.parse_args()


def answer_requests(make: Callable[[argparse.Namespace], Side]) -> None:
    """Load, say so, and measure what is asked for until stdin ends."""
    # Libraries print to stdout when they are imported; answers have it for themselves.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with torch.inference_mode():
            side = make(arguments())
            print(json.dumps({}), file=answers, flush=True)
            for line in sys.stdin:
                print(json.dumps(side.measure(**json.loads(line))), file=answers, flush=True)
