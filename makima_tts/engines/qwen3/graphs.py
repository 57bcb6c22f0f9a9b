"""Work on fixed tensors, captured once and replayed: on CUDA a graph, elsewhere the work itself.

In: work that reads and writes tensors that stay where they are. Out: its replay. Does not know: what the work
does.

A CUDA graph repeats launches with the addresses that they had. So what is captured must not look at a value,
and whatever it decides by numbers of Python is decided for ever.
"""

from collections.abc import Callable
from typing import Protocol

import torch

Replay = Callable[[], object]

# Before a capture: kernels are compiled and workspaces allocated by whoever is first.
_WARM_UPS = 2


class Capture(Protocol):
    """Makes a replay of work; engine thread only."""

    def __call__(self, work: Callable[[], object], /) -> Replay: ...


def nothing_captured(work: Callable[[], object]) -> Replay:
    """The eager twin: the work itself."""
    return work


class CudaCapture:
    """All graphs share one memory pool: they are replayed one after the other, on one stream.

    What a graph leaves in memory of its own is the next one's to overwrite; results belong into tensors that
    were there before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(device)  # what graphs work on was allocated on another stream
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, work: Callable[[], object]) -> Replay:
        """Not by ``torch.cuda.graph``, which may collect garbage before each of a hundred captures."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                work()
            self._stream.synchronize()
            # Other threads have nothing to do with this device, but may with another.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph.replay
