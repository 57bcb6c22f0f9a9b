"""What the interpreter of kernels lacks: exact products, and speed; and a process that compiles them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
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

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(InterpreterBuilder, "create_dot", dot)
        yield


@pytest.fixture(autouse=True, scope="session")
def calls_that_prepare_once() -> Iterator[None]:
    """The interpreter replaces all of Triton's functions anew whenever a kernel calls a function of its own.

    Once for each module is enough until the launch is over, which puts back what it replaced.
    """
    if torch.cuda.is_available():
        yield
        return
    from triton.runtime import interpreter

    prepared: set[int] = set()
    their_launch = interpreter.GridExecutor.__call__

    def call(function: Any, *args: Any, **given: Any) -> Any:
        if (module := id(function.fn.__globals__)) not in prepared:
            interpreter._patch_lang(function.fn)
            prepared.add(module)
        return function.rewrite()(*args, **given)

    def launch(grid: Any, *args: Any, **given: Any) -> None:
        prepared.clear()
        their_launch(grid, *args, **given)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(interpreter.InterpretedFunction, "__call__", call)
        patches.setattr(interpreter.GridExecutor, "__call__", launch)
        yield


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``compiling`` finds, in a process that interprets nothing."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    made = subprocess.run(
        [sys.executable, "-m", "tests.kernels.compiling"],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def _wide(block: Any) -> NDArray[np.float64]:
    """A block's numbers; those of bfloat16 are the upper halves of float32's."""
    kept: NDArray[Any] = block.data
    if str(block.dtype.scalar) == "bf16":
        kept = (kept.astype(np.uint32) << 16).view(np.float32)
    return kept.astype(np.float64)
