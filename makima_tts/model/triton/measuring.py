"""The time of GPU work that is replayed from a CUDA graph, as the engine runs it."""

from collections.abc import Callable
from statistics import median

import torch

_REPLAYS, _CALLS_A_REPLAY = 10, 20


def replayed_ms(work: Callable[[], object]) -> float:
    """The median of some replays, each with several calls of ``work``."""
    work()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CALLS_A_REPLAY):
            work()
    return median(_replay_ms(graph) for _ in range(_REPLAYS)) / _CALLS_A_REPLAY


def _replay_ms(graph: "torch.cuda.CUDAGraph") -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
