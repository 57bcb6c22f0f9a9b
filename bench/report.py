"""The report of a measurement.

In: numbers. Out: percentiles, tables, plots, the machine and how busy it was. Does not know: what was
measured. It imports nothing of ours, so that the peer's environment can do without.
"""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
_DPI = 120


def percentiles(values: Sequence[float], *ranks: float) -> dict[str, float | None]:
    """``{"p50": …}``, interpolated, rounded to 3 digits; None without values."""
    if not values:
        return dict.fromkeys(f"p{rank:g}" for rank in ranks)
    return {f"p{rank:g}": round(float(np.percentile(values, rank)), 3) for rank in ranks}


def circumstances() -> dict[str, str]:
    """Date, machine, Python, and the load average, which shows other work on the machine."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown CPU"


def log(line: str) -> None:
    """Progress of a measurement, beside the report."""
    print(line, file=sys.stderr)


def facts(named: Mapping[str, object]) -> str:
    """A line for each of them."""
    return "\n".join(f"{name}: {value}" for name, value in named.items())


def table(rows: Rows) -> str:
    """Markdown, with the keys of the first row as the header."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([_cell(row[name]) for name in header] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def plot_load(levels: Mapping[str, Rows], path: Path) -> None:
    """TTFA and underruns against the number of streams; ``levels``: rows by precision."""
    pyplot, whole_numbers = _matplotlib()
    figure, (ttfa, gaps) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    for name, rows in levels.items():
        streams = _numbers(rows, "streams")
        (line,) = ttfa.plot(streams, _numbers(rows, "TTFA p50 ms"), "o-", label=f"{name}, median")
        p95 = _numbers(rows, "TTFA p95 ms")
        ttfa.plot(streams, p95, ".--", color=line.get_color(), label=f"{name}, p95")
        gaps.plot(streams, _numbers(rows, "underruns a minute"), "o-", label=name)
    ttfa.set(ylabel="TTFA, ms", ylim=(0, None), title="TTFA and underruns by the number of live streams")
    gaps.set(ylabel="underruns in a minute of speech", xlabel="live streams")
    gaps.set_yscale("symlog", linthresh=1)
    gaps.set_ylim(0, max(1.0, gaps.get_ylim()[1]))
    gaps.yaxis.set_major_formatter(whole_numbers())
    gaps.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def plot_steps(rows: Rows, sides: Sequence[str], path: Path) -> None:
    """The time of a step against the batch size; ``rows``: of whole steps, a column a side."""
    pyplot, whole_numbers = _matplotlib()
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    batches = [row["size"] for row in rows]
    for side in sides:
        axes.plot(batches, _numbers(rows, side), "o-", label=side)
    axes.axhline(80, color="grey", linestyle=":", label="a frame of sound, 80 ms")
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="utterances in the batch", ylabel="a frame of each, ms")
    axes.set_title("Step time by batch")
    axes.yaxis.set_major_formatter(whole_numbers())
    axes.yaxis.set_minor_formatter(whole_numbers())
    axes.set_xticks(batches, [str(batch) for batch in batches])
    _save(figure, path)


def _matplotlib() -> tuple[Any, Any]:
    """Imported late, since that takes a second."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")  # no window
    from matplotlib import pyplot, ticker  # noqa: PLC0415

    return pyplot, ticker.ScalarFormatter


def _numbers(rows: Rows, name: str) -> list[float]:
    """NaN leaves a gap in the line."""
    return [float("nan") if row[name] is None else float(row[name]) for row in rows]


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    figure.clear()
