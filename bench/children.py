"""One side of a comparison, in a process of its own.

In: which side, of which precision. Out: what it measured, by name and size. Does not know: what that means.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.processes import ROOT, line_of, running, threads

REFERENCE_PYTHON = ROOT / ".venvs" / "qwen-tts" / "bin" / "python"
_STUBS = ROOT / "tests" / "official" / "stubs"
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
_PATIENCE_S = 20.0
START = "process, imports, weights, s"

# What was measured, and its size if it has one → a value for each run.
Found = dict[tuple[str, int | None], list[float]]


class Child:
    """Begins to load at once; ``await_ready`` tells how long that took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._began_s = time.monotonic()
        self.found: Found = {}

    def await_ready(self) -> "Child":
        line_of(self._process)
        self.found[START, None] = [time.monotonic() - self._began_s]
        return self

    def end(self) -> None:
        """It ends by itself once nothing can be asked any more, and takes its files away."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)

    def measure(self, part: str, size: int | None) -> None:
        print(json.dumps({"part": part, "size": size or 1}), file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(line_of(self._process))
        for name, value in answer.items():
            self.found.setdefault((name, size), []).append(value)


def _until_left(child: Child) -> Iterator[Child]:
    yield child.await_ready()
    child.end()


@contextmanager
def ours(checkpoint: Path, precision: str, thread_count: int | None, *options: str) -> Iterator[Child]:
    command = ("bench.ours", str(checkpoint), "--precision", precision, *options)
    with running(*command, environment=threads(thread_count)) as process:
        yield from _until_left(Child(process))


@contextmanager
def reference(checkpoint: Path, precision: str, thread_count: int | None, *options: str) -> Iterator[Child]:
    """In the environment of ``make venv-qwen-tts``, which must be there."""
    command = ("bench.reference", str(checkpoint), "--precision", precision, *options)
    environment = {**_QUIET, "PYTHONPATH": str(_STUBS), **threads(thread_count)}
    with running(*command, python=REFERENCE_PYTHON, environment=environment) as process:
        yield from _until_left(Child(process))
