"""What a frame of speech costs, side by side with the reference package on the same checkpoint.

In: a checkpoint with random weights, which is written if there is none. Out: a table and, with --json, a
file: loading, encoding a voice, reading its prompt, the first chunk, a frame and its parts by batch size,
memory. Does not know: the service around the model.

    python -m bench.model                                   # 0.6B in fp32 on the CPU
    python -m bench.model --precision bf16 --device cuda

Both sides are processes of their own that are asked in turn, so that what else the machine does meets both.
The reference runs in the environment of ``make venv-qwen-tts``; without it, its columns are empty.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from bench.report import circumstances, percentiles, table

ROOT = Path(__file__).parents[1]
REFERENCE_PYTHON = ROOT / ".venvs" / "qwen-tts" / "bin" / "python"
STUBS = ROOT / "tests" / "official" / "stubs"
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
FRAME_MS = 80.0
# What happens to one utterance at a time; then what happens to all of a batch.
ONCE = ("voice", "prompt", "first")
EACH_BATCH = ("step", "parts")
OTHER_UNITS = (", s", ", MiB")
START = "start: process, imports, weights, s"

Found = dict[tuple[str, int | None], list[float]]


class Child:
    """One side, in a process of its own. Begins to load at once; ``await_ready`` tells how long that took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._began_s = time.monotonic()
        self._found: Found = {}

    def await_ready(self) -> None:
        self._answer()
        self._found[START, None] = [time.monotonic() - self._began_s]

    def measure(self, part: str, batch: int | None) -> None:
        print(json.dumps({"part": part, "batch": batch or 1}), file=self._process.stdin, flush=True)
        for name, value in self._answer().items():
            self._found.setdefault((name, batch), []).append(value)

    @property
    def found(self) -> Found:
        return self._found

    def _answer(self) -> dict[str, float]:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, "one side of this measurement has ended; what it said is above"
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def side(python: Path, module: str, given: argparse.Namespace) -> Iterator[Child]:
    """The process, ended on leaving: nothing of it is kept."""
    command = [python, "-m", module, given.checkpoint, "--device", given.device]
    command += ["--precision", given.precision, "--frames", str(given.frames)]
    command += ["--slots", str(max(given.batches))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **QUIET, "PYTHONPATH": str(STUBS), **_threads(given.threads)},
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def _threads(count: int | None) -> dict[str, str]:
    return {} if count is None else {"OMP_NUM_THREADS": str(count)}


def measure(given: argparse.Namespace) -> list[Found]:
    """Ours, and the reference's if it is there."""
    with ExitStack() as stack:
        ours = stack.enter_context(side(Path(sys.executable), "bench.ours", given))
        ours.await_ready()
        children = [ours]
        if REFERENCE_PYTHON.exists():
            children.append(stack.enter_context(side(REFERENCE_PYTHON, "bench.reference", given)))
            children[-1].await_ready()
        for part, batch in _plan(given):
            print(f"{part}, batch {batch or 1} …", file=sys.stderr)
            for child in children:
                child.measure(part, batch)
        return [child.found for child in children]


def _plan(given: argparse.Namespace) -> Iterator[tuple[str, int | None]]:
    yield "warm-up", None
    for _ in range(given.runs):
        yield from ((part, None) for part in ONCE)
        yield from ((part, batch) for batch in given.batches for part in EACH_BATCH)
    yield "memory", None


def rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A line for everything measured: the medians of all runs, and how many times ours the reference's is."""
    lines = []
    for name, batch in found[0]:
        ours, theirs = (_median(side.get((name, batch), [])) for side in (found[0], (*found, {})[1]))
        lines.append(
            {
                "what": name if name.endswith(OTHER_UNITS) else f"{name}, ms",
                "batch": batch,
                "ours": ours,
                "reference": theirs,
                "reference / ours": theirs / ours if theirs and ours else None,
                "RTF ours": ours / FRAME_MS if ours and name == "whole step" else None,
                "RTF reference": theirs / FRAME_MS if theirs and name == "whole step" else None,
            }
        )
    return lines


def _median(values: list[float]) -> float | None:
    return percentiles(values, 50)["p50"]


def checkpoint_in(folder: Path, size: str) -> Path:
    """Written by a process of its own, once."""
    path = folder / size
    if not path.exists():
        unfinished = folder / f"{size}.unfinished"
        writer = [sys.executable, "-m", "bench.make_checkpoint", str(unfinished), "--size", size]
        subprocess.run(writer, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        unfinished.rename(path)
    return path


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("0.6B", "1.7B"), default="0.6B")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of both sides")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--frames", type=int, default=12, help="steps in a run")
    parser.add_argument("--threads", type=int, help="of a CPU; else as many as it has cores")
    parser.add_argument("--checkpoint", type=Path, help="a folder; else one with random weights is written")
    parser.add_argument("--cache", type=Path, help="where that is kept; else nowhere (2.5 GB and more)")
    parser.add_argument("--json", type=Path, help="a file to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        given.checkpoint = given.checkpoint or checkpoint_in(given.cache or Path(folder), given.size)
        before = circumstances()
        lines = rows(measure(given))
    about = {
        **before,
        "load average after": circumstances()["load average"],
        "model": f"{given.size}, random weights, {given.precision} on {given.device}",
        "threads": given.threads or os.cpu_count(),
        "medians of": f"{given.runs} runs of {given.frames} steps",
    }
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{table(lines)}")
    if given.json:
        given.json.write_text(json.dumps({**about, "rows": lines}, indent=2))


if __name__ == "__main__":
    main()
