"""CUDA graphs without a GPU: operations are recorded one by one and replayed on the same memory.

In: work on fixed tensors. Out: its replay, which runs no line of the work. Does not know: what the work does.

What a CUDA graph would do wrong goes wrong here: numbers of Python are what they were, results lie where they
lay, and an operation that tells the host a value cannot be recorded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from makima_tts.engines.qwen3 import runner
from makima_tts.engines.qwen3.cuda_graphs import CudaGraphExecutor
from makima_tts.model import sampling
from makima_tts.model.ops import torch as torch_ops


class HostLooked(Exception):
    """In a captured graph this would be an error of CUDA."""


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(made)):
            raise HostLooked(str(func))
        self.calls.append((func, args, kwargs or {}, made))
        return made


def recorded(work: Callable[[], object]) -> Callable[[], None]:
    """A Capture. All tensors that the work allocates are kept, since later operations read them."""
    work()  # as a capture is warmed up
    with _Recording() as recording:
        work()

    def replay() -> None:
        for func, args, kwargs, kept in recording.calls:
            made = func(*args, **kwargs)
            for place, value in zip(tree_leaves(kept), tree_leaves(made), strict=True):
                # A view, or what was changed in place, is where it was.
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)

    return replay


def not_captured(work: Callable[[], object]) -> Callable[[], object]:
    """A Capture whose replay is the work itself."""
    return work


@contextmanager
def no_glances() -> Iterator[None]:
    """Code that reads values on the host only on a CPU behaves as on a GPU."""
    with (
        mock.patch.object(torch_ops, "_are_first", lambda rows: rows is None),
        mock.patch.object(sampling, "_no_row_has_top_p", return_value=False),
    ):
        yield


@contextmanager
def everything_captured() -> Iterator[None]:
    """Runners that are created meanwhile run ahead of the host, with recorded graphs."""
    with (
        no_glances(),
        mock.patch.object(
            runner,
            "_executor",
            # To record calls of more rows takes a CPU long.
            lambda model, buffers, progress: CudaGraphExecutor(
                model, buffers, recorded, prefill_rows=(16, 64), progress=progress
            ),
        ),
    ):
        yield
