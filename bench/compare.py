"""Ours and the reference package side by side: the same checkpoint, texts and voice, in one run.

In: a checkpoint; with random weights, one is written if there is none. Out: Markdown tables, JSON and plots:
a stream through a real server, how many live ones it bears, who comes and goes, voices, prompts, steps by
batch, start and memory; ratios of medians over runs, with the load average before and after. Does not know:
how any of it is done.

    python -m bench.compare --checkpoint FOLDER --precisions fp32 bf16 int8 int4 --json out.json --plots docs
    python -m bench.compare --only model --profile          # no server; where a frame's time goes
    python -m bench.compare --device cuda --precisions bf16

All sides are processes of their own that are asked in turn, so that what else the machine does meets all of
them. The reference runs in the environment of ``make venv-qwen-tts``; without it, its columns are empty.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import children
from bench.children import Child, Found
from bench.comparison import rows_of, sections, step_rows
from bench.live_streams import Level, level_rows
from bench.processes import thread_count
from bench.report import circumstances, table
from bench.served_precisions import PRECISIONS
from bench.service_side import measure_service
from tests.checkpoints import checkpoint_in

# What happens to one utterance at a time; then what happens to many, or to much.
_ONCE = ("voice", "prompt", "first", "engine")
_PREFILL_ROWS = (10, 25, 50, 100, 200, 400)


def measure(given: argparse.Namespace) -> tuple[dict[str, Found], dict[str, list[Level]]]:
    """Columns, ours first; the levels of load by precision."""
    with ExitStack() as stack:
        options = (
            "--device",
            given.device,
            "--frames",
            str(given.frames),
            "--slots",
            str(max(given.batches)),
        )
        others = {}
        if children.REFERENCE_PYTHON.exists():
            precision = given.reference_precision
            their = children.reference(given.checkpoint, precision, given.threads, *options)
            others[f"reference {precision}"] = stack.enter_context(their)
            _ask(others.values(), "warm-up")
        columns: dict[str, Found] = {f"ours {precision}": {} for precision in given.precisions}
        levels: dict[str, list[Level]] = {}
        if given.only != "service":
            _measure_models(given, columns, list(others.values()), options)
        if given.only != "model":
            levels = _measure_services(given, columns, list(others.values()))
        columns |= {name: child.found for name, child in others.items()}
        return columns, levels


def _measure_models(
    given: argparse.Namespace, columns: dict[str, Found], others: Sequence[Child], options: Sequence[str]
) -> None:
    with ExitStack() as stack:
        ours = []
        for precision in given.precisions:
            ours.append(
                stack.enter_context(children.ours(given.checkpoint, precision, given.threads, *options))
            )
            columns[f"ours {precision}"] = ours[-1].found
        _ask(ours, "warm-up")
        for part, size in _plan(given):
            _ask([*ours, *others], part, size)


def _measure_services(
    given: argparse.Namespace, columns: dict[str, Found], others: Sequence[Child]
) -> dict[str, list[Level]]:
    levels = {}
    for precision in given.precisions:
        figures, levels[precision] = measure_service(
            given, precision, beside=lambda: _ask(others, "speech"), say=_say
        )
        for name, values in figures.items():
            columns[f"ours {precision}"][name, None] = values
    return levels


def _plan(given: argparse.Namespace) -> Iterator[tuple[str, int | None]]:
    for _ in range(given.runs):
        yield from ((part, None) for part in _ONCE)
        yield from (("prefill", rows) for rows in _PREFILL_ROWS)
        yield from (("step", batch) for batch in given.batches)
    if given.profile:
        yield "profile", 1
    yield "memory", None


def _ask(asked: Any, part: str, size: int | None = None) -> None:
    if asked:
        _say(f"{part}{f', {size}' if size else ''} …")
    for child in asked:
        child.measure(part, size)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("0.6B", "1.7B"), default="0.6B")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=["fp32", "bf16"], help="ours")
    parser.add_argument("--reference-precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="of a CPU; else as many as it has cores")
    parser.add_argument("--only", choices=("model", "service"), help="one half of it")
    parser.add_argument("--runs", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--frames", type=int, default=24, help="steps in a run of one, fewer of more")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--most", type=int, default=8, help="live streams that are tried, at most")
    parser.add_argument("--listen", type=float, default=20.0, help="seconds at each number of live streams")
    parser.add_argument("--profile", action="store_true", help="where a frame's time goes, too")
    parser.add_argument("--checkpoint", type=Path, help="a folder; else one with random weights is written")
    parser.add_argument("--cache", type=Path, help="where that is kept; else nowhere (2.5 GB and more)")
    parser.add_argument("--json", type=Path, help="a file to write")
    parser.add_argument("--plots", type=Path, help="a folder for load.png and steps.png")
    return parser


def report(given: argparse.Namespace, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Tables for docs/benchmarks.md, and files."""
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    for title, rows in sections(found["rows"]).items():
        print(f"\n### {title}\n\n{table(rows)}")
    for precision, rows in found["levels"].items():
        print(f"\n### Live streams, {precision}\n\n{table(rows)}")
    if given.json:
        given.json.write_text(json.dumps({**about, **found}, indent=2))
    if given.plots:
        from bench.plots import plot_load, plot_steps  # noqa: PLC0415, matplotlib takes a second

        if found["levels"]:
            plot_load(found["levels"], given.plots / "load.png")
        if steps := step_rows(found["rows"]):
            plot_steps(steps, found["sides"], given.plots / "steps.png")


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        given.checkpoint = given.checkpoint or checkpoint_in(given.cache or Path(folder), given.size)
        about = circumstances()
        columns, levels = measure(given)
    about |= {
        "load average after": circumstances()["load average"],
        "model": f"{given.checkpoint.name}, random weights unless they are yours, on {given.device}",
        "threads": str(thread_count(given.threads)),
        "medians of": f"{given.runs} runs",
    }
    found = {
        "sides": list(columns),
        "rows": rows_of(columns),
        "levels": {name: level_rows(tried) for name, tried in levels.items()},
    }
    report(given, about, found)


if __name__ == "__main__":
    main()
