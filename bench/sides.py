"""Code of both sides of a comparison: a clock that waits for the device, and a process that answers.

In: requests on stdin, a line of JSON each. Out: answers on stdout, a line of JSON each. Does not know: either
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
from typing import Any
from unittest import mock

import torch

FRAME_MS = 80.0
# The largest size of a chunk.
CHUNK_FRAMES = 12

Figures = dict[str, float]


# What is measured, and the size of the batch or whatever else varies → figures, whose names end with their
# units; none for what a side does not have.
Measure = Callable[[str, int], Figures]


def frames_of(batch: int, frames: int) -> int:
    """Enough steps to measure: fewer of a large batch, whose steps take longer."""
    return max(2, frames // batch)


class Clock:
    """Time on a device: the device is idle before a time is read."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now_ms(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() * 1e3

    @contextmanager
    def timing(self, owner: Any, name: str) -> Iterator[list[float]]:
        """The milliseconds of every call of this method, while the context lasts."""
        method, took_ms = getattr(owner, name), list[float]()

        def timed(*arguments: Any, **named: Any) -> Any:
            began_ms = self.now_ms()
            result = method(*arguments, **named)
            took_ms.append(self.now_ms() - began_ms)
            return result

        with mock.patch.object(owner, name, timed):
            yield took_ms

    def peak_mib(self) -> float:
        """The most memory so far: the device's if it has its own, else this process's."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def answer_requests(load: Callable[[argparse.Namespace], Measure]) -> None:
    """Load, answer once, then answer each request until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--slots", type=int, default=8)
    # Libraries print to stdout when they are imported; only answers go there.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with torch.inference_mode():
            measure = load(parser.parse_args())
            print(json.dumps({}), file=answers, flush=True)
            for line in sys.stdin:
                print(json.dumps(measure(*json.loads(line))), file=answers, flush=True)
