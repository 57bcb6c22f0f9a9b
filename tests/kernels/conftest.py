"""What the interpreter of kernels lacks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray


@pytest.fixture(autouse=True, scope="session")
def products_as_on_a_gpu() -> Iterator[None]:
    """The interpreter's know no bfloat16, and sum up in an order that depends on where a row is.

    In float64 the order does not show any more.
    """
    if torch.cuda.is_available():
        yield
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def dot(_builder: object, one: Any, other: Any, before: Any, *_precision: object) -> Any:
        total = _wide(one) @ _wide(other) + before.data
        return TensorHandle(total.astype(before.data.dtype), before.dtype.scalar)

    theirs, InterpreterBuilder.create_dot = InterpreterBuilder.create_dot, dot
    yield
    InterpreterBuilder.create_dot = theirs


def _wide(block: Any) -> NDArray[np.float64]:
    """A block's numbers; those of bfloat16 are the upper halves of float32's."""
    kept: NDArray[Any] = block.data
    if str(block.dtype.scalar) == "bf16":
        kept = (kept.astype(np.uint32) << 16).view(np.float32)
    return kept.astype(np.float64)
