"""The report of all parts: targets, figures and tables.

In: the JSON file of each part. Out: gpu.json, table.md and profile.txt; on stdout, the table; exit code 1 if
a part failed. Does not know: how anything is measured.

    python -m bench.gpu.report FOLDER OUT [--dry]
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from bench.report import circumstances, facts, table

# The first four run together, the others one after the other.
PARTS = ("kernels", "tests", "checkpoint", "precision", "steps", "turns", "single", "profile", "peer", "load")
CHECKPOINT_WRITTEN = "checkpoint-written"
_PACKAGES = ("torch", "triton", "numpy")
_NVIDIA_SMI_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Target:
    """``name``: of the figure, which is to be at most or at least ``limit``."""

    what: str
    name: str
    bound: Literal["≤", "≥"]
    limit: float

    def row(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        figure = figures.get(self.name)
        return {
            "what": self.what,
            "target": f"{self.bound} {self.limit:g}",
            "figure": figure,
            "met": "not measured" if figure is None else "yes" if self._is_met(figure) else "NO",
        }

    def _is_met(self, figure: float) -> bool:
        return figure <= self.limit if self.bound == "≤" else figure >= self.limit


# For one H200 with the 0.6B and a voice that was encoded before, measured at the client.
TARGETS = (
    Target("TTFA, one stream, p95, ms", "one stream, TTFA p95 ms", "≤", 15),
    Target("TTFA, 10 requests a second, p95, ms", "10 a second, TTFA p95 ms", "≤", 25),
    Target("underruns, 10 requests a second", "10 a second, underruns", "≤", 0),
    Target("TTFA, 20 requests a second, p95, ms", "20 a second, TTFA p95 ms", "≤", 40),
    Target("underruns, 20 requests a second", "20 a second, underruns", "≤", 0),
    Target("live streams for a minute without an underrun", "live streams", "≥", 256),
    Target("audio seconds per second", "audio seconds per second", "≥", 450),
    Target("a frame of each, batch 1, ms", "frame of each, batch 1, ms", "≤", 5),
    Target("a frame of each, batch 32, ms", "frame of each, batch 32, ms", "≤", 8),
    Target("a frame of each, batch 128, ms", "frame of each, batch 128, ms", "≤", 14),
    Target("a frame of each, batch 256, ms", "frame of each, batch 256, ms", "≤", 25),
    Target("cancel to a free place, steps", "cancel to a free place, steps", "≤", 1),
    Target("start to ready, s", "start to ready, s", "≤", 20),
    Target("short phrase, first to last byte, ms", "short phrase, first to last byte, p50 ms", "≤", 150),
    Target("memory with 8 streams, GB", "memory, 8 streams, GB", "≤", 4),
)


def target_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [target.row(figures) for target in TARGETS]


def card(field: str) -> str:
    """A field that nvidia-smi reports of the first card; "none" without one."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", "--id=0"]
    run = subprocess.run(query, check=False, stdout=subprocess.PIPE, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S)
    return run.stdout.strip() or "none"


def card_gb(field: str) -> float | None:
    """Of a field in MiB."""
    mib = card(field)
    return float(mib) * 2**20 / 1e9 if mib.replace(".", "").isdigit() else None


def about(folder: Path) -> dict[str, str]:
    """The machine; its load average is that of the first call."""
    path = folder / "about.json"
    if not path.exists():
        versions = {name: _version(name) for name in _PACKAGES}
        found = {**circumstances(), "card": card("name"), "driver": card("driver_version"), **versions}
        path.write_text(json.dumps(found))
        return found
    known: dict[str, str] = json.loads(path.read_text() or "{}")
    return known


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def write_report(folder: Path, out: Path, *, dry: bool) -> bool:
    """Of all parts so far; whether all ended well."""
    out.mkdir(parents=True, exist_ok=True)
    where = about(folder) | {"load average after": circumstances()["load average"]}
    if dry:
        where["dry"] = "a tiny checkpoint on a CPU: no figure means anything"
    not_begun = {"ended": "not begun", "took_s": 0.0, "figures": {}, "tables": {}}
    paths = {name: folder / "parts" / f"{name}.json" for name in PARTS}
    parts: dict[str, dict[str, Any]] = {
        name: json.loads(path.read_text()) if path.exists() else not_begun for name, path in paths.items()
    }
    figures = {name: value for each in parts.values() for name, value in each["figures"].items()}
    kept = {"about": where, "targets": target_rows(figures), "figures": figures, "parts": parts}
    (out / "gpu.json").write_text(json.dumps(kept, indent=2) + "\n")
    (out / "table.md").write_text("\n".join(_lines(where, figures, parts)) + "\n")
    if (folder / "profile.txt").exists():
        shutil.copy(folder / "profile.txt", out)
    return all(each["ended"] == "ok" for each in parts.values())


def _lines(
    where: Mapping[str, str], figures: Mapping[str, Any], parts: Mapping[str, dict[str, Any]]
) -> Iterator[str]:
    yield facts(where).replace("\n", "  \n")
    yield f"\n### Targets\n\n{table(target_rows(figures))}"
    targets = {target.name for target in TARGETS}
    others = {name: value for name, value in figures.items() if name not in targets and value is not None}
    if others:
        beside = [{"what": name, "figure": value} for name, value in others.items()]
        yield f"\n### Beside them\n\n{table(beside)}"
    ended = [
        {"part": name, "ended": each["ended"], "took, s": each["took_s"]} for name, each in parts.items()
    ]
    yield f"\n### Parts\n\n{table(ended)}"
    for each in parts.values():
        for title, rows in each["tables"].items():
            yield f"\n### {title}\n\n{table(rows)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of all parts")
    parser.add_argument("out", type=Path, help="of the report")
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args(arguments)
    is_good = write_report(options.folder, options.out, dry=options.dry)
    print((options.out / "table.md").read_text(), end="")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
