"""All that a GPU is needed for, in under eight minutes.

In: nothing but the machine; ``--dry``: no GPU either, small, to see that everything runs. Out: a folder with
gpu.json, table.md, profile.txt and log.txt; the table, on stdout; exit code 1 if a part failed. Does not
know: how anything is measured.

    bench/gpu.sh --wheels    # where PyPI can be reached: fetch what the GPU's machine lacks
    bench/gpu.sh             # there
    bench/gpu.sh --dry       # anywhere

Every part is a process with a limit of its own, and a part that hangs costs the others nothing: all limits
together are less than eight minutes. What they leave is for many listeners, who come last.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.gpu_findings import WRITTEN
from bench.gpu_machine import about
from bench.gpu_parts import Outcome, Part, found_by, log_of, run_part
from bench.gpu_targets import other_rows, target_rows
from bench.report import circumstances, table

WHOLE_S = 455.0
# In this order; the first four together, since tests bring their own checkpoints. With the checkpoint a
# first server is started, which compiles the kernels: the parts after it find them compiled.
LIMITS_S = {
    "kernels": 115.0,
    "tests": 115.0,
    "checkpoint": 115.0,
    "precision": 115.0,
    "steps": 40.0,
    "places": 25.0,
    "one": 40.0,
    "profile": 35.0,
    "peer": 40.0,
}
LAST = "many"
# A server and its listeners are gone by then.
_ENDING_S = 4.0
_DRY_LIMIT_S = 60.0
_DRY_LAST_S = 20.0
_DRY_AT_ONCE = 2
_FIRST = 4
# Of the peer: it looks for nothing elsewhere.
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class Measurement:
    """``peer_path``: where the peer's packages are, if they have a place of their own."""

    def __init__(self, folder: Path, *, dry: bool, peer_path: str | None) -> None:
        self._folder = folder
        self._dry = dry
        self._peer_path = peer_path
        self._began_s = time.monotonic()
        self._checkpoint = folder / "checkpoint"

    def outcomes(self) -> Iterator[Outcome]:
        """Of all parts, in order, as they end."""
        names = [*LIMITS_S, LAST]
        with ThreadPoolExecutor(_FIRST) as pool:
            yield from pool.map(self._run, names[:_FIRST])
        with ThreadPoolExecutor(_DRY_AT_ONCE if self._dry else 1) as pool:
            yield from pool.map(self._run, names[_FIRST:])

    def _run(self, name: str) -> Outcome:
        return run_part(self._part(name), self._folder)

    def _part(self, name: str) -> Part:
        limit_s = self._limit_s(name)
        # Dry, who would go on as long as there is time has little of it.
        seconds = _DRY_LAST_S if self._dry and name == LAST else limit_s - _ENDING_S
        options = ["--found", str(found_by(name, self._folder)), "--folder", str(self._folder)]
        command = ["-m", f"bench.gpu_{name}", str(self._checkpoint), *options, "--seconds", f"{seconds}"]
        needs = None if name in list(LIMITS_S)[:_FIRST] else self._folder / WRITTEN
        return Part(name, [*command, *self._dry_option()], limit_s, self._environment(name), needs)

    def _limit_s(self, name: str) -> float:
        if self._dry:
            return _DRY_LIMIT_S
        left_s = WHOLE_S - (time.monotonic() - self._began_s)
        return left_s if name == LAST else min(LIMITS_S[name], left_s)

    def _environment(self, name: str) -> Mapping[str, str]:
        """The peer's packages are not ours; and who computes beside others takes no core from them."""
        if name == "precision":
            return {"OMP_NUM_THREADS": "4"}
        if name != "peer":
            return {}
        return _QUIET if self._peer_path is None else {**_QUIET, "PYTHONPATH": self._peer_path}

    def _dry_option(self) -> Sequence[str]:
        return ["--dry"] if self._dry else []


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of all parts together: their names differ."""
    return {name: value for each in outcomes for name, value in each.found.get("figures", {}).items()}


def part_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [{"part": each.name, "ended": each.status, "took, s": each.took_s} for each in outcomes]


def report(about: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """Markdown."""
    return "\n".join(_lines(about, outcomes))


def _lines(about: Mapping[str, str], outcomes: Sequence[Outcome]) -> Iterator[str]:
    figures = figures_of(outcomes)
    yield from (f"{name}: {value}  " for name, value in about.items())
    yield f"\n### Targets\n\n{table(target_rows(figures))}"
    if others := other_rows(figures):
        yield f"\n### Beside them\n\n{table(others)}"
    yield f"\n### Parts\n\n{table(part_rows(outcomes))}"
    for each in outcomes:
        for title, rows in each.found.get("tables", {}).items():
            yield f"\n### {title}\n\n{table(rows)}"


def keep(out: Path, folder: Path, about: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """All files, in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "about": about,
        "targets": target_rows(figures_of(outcomes)),
        "figures": figures_of(outcomes),
        "parts": {
            each.name: {"ended": each.status, "took_s": each.took_s, **each.found} for each in outcomes
        },
    }
    (out / "gpu.json").write_text(json.dumps(written, indent=2) + "\n")
    (out / "table.md").write_text(report(about, outcomes) + "\n")
    logs = {each.name: log_of(each.name, folder) for each in outcomes}
    said = [f"== {name}\n{log.read_text()}" for name, log in logs.items() if log.exists()]
    (out / "log.txt").write_text("\n".join(said))
    profiled = folder / "profile.txt"
    if profiled.exists():
        shutil.copy(profiled, out / "profile.txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".bench-gpu"), help="a folder for the results")
    parser.add_argument("--dry", action="store_true", help="small, on a CPU, to see that everything runs")
    parser.add_argument("--peer-path", help="where the peer's packages are, if not where ours are")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="makima-tts-gpu-") as folder:
        measurement = Measurement(Path(folder), dry=given.dry, peer_path=given.peer_path)
        where = about() | (
            {"dry": "a tiny checkpoint on a CPU: no figure means anything"} if given.dry else {}
        )
        outcomes: list[Outcome] = []
        for outcome in measurement.outcomes():
            outcomes.append(outcome)
            where["load average after"] = circumstances()["load average"]
            keep(given.out, Path(folder), where, outcomes)  # whatever becomes of the rest
    print(report(where, outcomes))
    return 0 if all(each.is_good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
