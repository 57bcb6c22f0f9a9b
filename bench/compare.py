"""Ours and the reference package side by side: the same checkpoint, texts and voice, in one run.

In: a checkpoint; without one, it is written with random weights. Out: Markdown tables, JSON and plots: a
stream through a real server, how many live ones it bears, underruns while others come and go, voices,
prompts, steps by batch, start and memory; ratios of medians over runs, with the load average before and
after. Does not know: how any of it is measured.

    python -m bench.compare --checkpoint FOLDER --precisions fp32 bf16 int8 int4 --json out.json --plots docs
    python -m bench.compare --only model --profile          # no server; where a frame's time goes
    python -m bench.compare --device cuda --precisions bf16

Each side is a process of its own. They are asked in turn, so that other work on the machine meets all of
them. The reference runs in the environment of ``make venv-qwen-tts``; without it, its columns are missing.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.load import ConcurrencyLevel, level_rows
from bench.report import circumstances, facts, log, percentiles, plot_load, plot_steps, table
from bench.served import measure_service
from bench.server import PRECISIONS, ROOT, line_of, running, thread_count, threads
from tests.checkpoints import checkpoint_in

REFERENCE_PYTHON = ROOT / ".venvs" / "qwen-tts" / "bin" / "python"
_REFERENCE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONPATH": str(ROOT / "tests" / "official" / "stubs"),
}
_ENDING_S = 20.0
# What happens to one utterance at a time; then what depends on a size.
_WITHOUT_SIZE = ("voice", "prompt", "first", "engine")
_PREFILL_ROWS = (10, 25, 50, 100, 200, 400)
# A title, and how the names of its figures begin.
_SECTIONS = {
    "One stream through the server": ("RTF, one stream", "TTFA, one stream", "audio, one stream"),
    "Live streams": ("live streams", "streams beside", "underruns", "longest gap"),
    "A place that becomes free": ("cancel", "disconnect"),
    "Voices and prompts": ("voice", "prompt", "text to first chunk"),
    "Prefill, by rows": ("prefill",),
    "A frame of each, by batch": ("whole step", "talker", "code predictor", "codec"),
    "Where a frame's time goes": ("a frame's", "operator"),
    "Start and memory": ("",),
}
_STEP = "whole step, ms"

Row = dict[str, Any]
# A figure's name, and its size if it has one → a value for each run.
Found = dict[tuple[str, int | None], list[float]]


class Side:
    """One side, in a process of its own (``bench.sides``). It is created when that has loaded."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        began_s = time.monotonic()
        line_of(process)
        self._process = process
        self.found: Found = {("process, imports, weights, s", None): [time.monotonic() - began_s]}

    def end(self) -> None:
        """It ends by itself when stdin is closed, and deletes its files."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)

    def measure(self, what: str, size: int | None) -> None:
        print(json.dumps([what, size or 1]), file=self._process.stdin, flush=True)
        answer: dict[str, float] = json.loads(line_of(self._process))
        for name, value in answer.items():
            self.found.setdefault((name, size), []).append(value)


@contextmanager
def _side(options: argparse.Namespace, precision: str, *, reference: bool = False) -> Iterator[Side]:
    arguments = [str(options.checkpoint), "--precision", precision, "--device", options.device]
    arguments += ["--frames", str(options.frames), "--slots", str(max(options.batches))]
    module, python, environment = "bench.ours", None, threads(options.threads)
    if reference:
        module, python = "bench.reference", REFERENCE_PYTHON
        environment |= _REFERENCE_ENVIRONMENT
    with running(module, *arguments, python=python, environment=environment) as process:
        side = Side(process)
        yield side
        side.end()


def measure(options: argparse.Namespace) -> tuple[dict[str, Found], dict[str, list[ConcurrencyLevel]]]:
    """Columns, ours first; the levels of concurrency by precision."""
    columns: dict[str, Found] = {f"ours {precision}": {} for precision in options.precisions}
    levels: dict[str, list[ConcurrencyLevel]] = {}
    references: list[Side] = []
    with ExitStack() as stack:
        if REFERENCE_PYTHON.exists():
            side = _side(options, options.reference_precision, reference=True)
            references.append(stack.enter_context(side))
            _ask(references, "warm-up")
        if options.only != "service":
            _measure_models(options, columns, references)
        if options.only != "model":
            for precision in options.precisions:
                figures, levels[precision] = measure_service(
                    options, precision, after_each=lambda: _ask(references, "speech")
                )
                columns[f"ours {precision}"] |= {(name, None): values for name, values in figures.items()}
    columns |= {f"reference {options.reference_precision}": side.found for side in references}
    return columns, levels


def _measure_models(
    options: argparse.Namespace, columns: dict[str, Found], references: Sequence[Side]
) -> None:
    with ExitStack() as stack:
        ours = [stack.enter_context(_side(options, precision)) for precision in options.precisions]
        _ask(ours, "warm-up")
        for what, size in _plan(options):
            _ask([*ours, *references], what, size)
        columns |= {
            f"ours {precision}": side.found for precision, side in zip(options.precisions, ours, strict=True)
        }


def _plan(options: argparse.Namespace) -> Iterator[tuple[str, int | None]]:
    for _ in range(options.runs):
        yield from ((what, None) for what in _WITHOUT_SIZE)
        yield from (("prefill", rows) for rows in _PREFILL_ROWS)
        yield from (("step", batch) for batch in options.batches)
    if options.profile:
        yield "profile", 1
    yield "memory", None


def _ask(sides: Sequence[Side], what: str, size: int | None = None) -> None:
    if sides:
        log(f"{what}{f', {size}' if size else ''} …")
    for side in sides:
        side.measure(what, size)


def rows_of(columns: Mapping[str, Found]) -> list[Row]:
    """A row for every figure of ours: the median of each side, and the reference's divided by ours."""
    names = dict.fromkeys(name for side, found in columns.items() if _is_ours(side) for name in found)
    return [_row(columns, name, size) for name, size in names]


def _row(columns: Mapping[str, Found], name: str, size: int | None) -> Row:
    medians = {side: percentiles(found.get((name, size), []), 50)["p50"] for side, found in columns.items()}
    reference = next((value for side, value in medians.items() if not _is_ours(side)), None)
    ratios = {
        f"reference ÷ {side}": reference / ours if reference and ours else None
        for side, ours in medians.items()
        if _is_ours(side)
    }
    return {"what": name, "size": size, **medians, **ratios}


def _is_ours(side: str) -> bool:
    return side.startswith("ours")


def sections(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by subject, without columns that are empty there."""
    by_title: dict[str, list[Row]] = {title: [] for title in _SECTIONS}
    for row in rows:
        title = next(title for title, prefixes in _SECTIONS.items() if row["what"].startswith(prefixes))
        by_title[title].append(row)
    for some in by_title.values():
        empty = {name for row in some for name in row if all(each[name] is None for each in some)}
        some[:] = [{name: value for name, value in row.items() if name not in empty} for row in some]
    return {title: some for title, some in by_title.items() if some}


def step_rows(rows: Sequence[Row]) -> list[Row]:
    """The whole steps, a row for each batch size."""
    return sorted((row for row in rows if row["what"] == _STEP), key=lambda row: int(row["size"]))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("0.6B", "1.7B"), default="0.6B")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=["fp32", "bf16"], help="ours")
    parser.add_argument("--reference-precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="of a CPU; default: one per core")
    parser.add_argument("--only", choices=("model", "service"), help="one half of it")
    parser.add_argument("--runs", type=int, default=3, help="medians are taken of so many")
    parser.add_argument("--frames", type=int, default=24, help="steps in a run of one, fewer of more")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--most", type=int, default=8, help="the largest number of live streams to try")
    parser.add_argument("--listen", type=float, default=20.0, help="seconds at each number of live streams")
    parser.add_argument("--profile", action="store_true", help="where a frame's time goes, too")
    parser.add_argument("--checkpoint", type=Path, help="a folder; default: one is written, random weights")
    parser.add_argument("--cache", type=Path, help="where that is kept; default: nowhere (2.5 GB and more)")
    parser.add_argument("--json", type=Path, help="a file to write")
    parser.add_argument("--plots", type=Path, help="a folder for load.png and steps.png")
    return parser


def report(options: argparse.Namespace, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Tables for docs/benchmarks.md, and files."""
    print(facts(about))
    for title, rows in sections(found["rows"]).items():
        print(f"\n### {title}\n\n{table(rows)}")
    for precision, rows in found["levels"].items():
        print(f"\n### Live streams, {precision}\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps({**about, **found}, indent=2))
    if options.plots and found["levels"]:
        plot_load(found["levels"], options.plots / "load.png")
    if options.plots and (steps := step_rows(found["rows"])):
        plot_steps(steps, found["sides"], options.plots / "steps.png")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        options.checkpoint = options.checkpoint or checkpoint_in(options.cache or Path(folder), options.size)
        about = circumstances()
        columns, levels = measure(options)
    about |= {
        "load average after": circumstances()["load average"],
        "model": f"{options.checkpoint.name}, random weights unless they are yours, on {options.device}",
        "threads": str(thread_count(options.threads)),
        "medians of": f"{options.runs} runs",
    }
    found = {
        "sides": list(columns),
        "rows": rows_of(columns),
        "levels": {name: level_rows(tried) for name, tried in levels.items()},
    }
    report(options, about, found)


if __name__ == "__main__":
    main()
