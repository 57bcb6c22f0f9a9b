"""Pictures of measurements.

In: tables, as they are reported. Out: PNG files. Does not know: how anything was measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no window
from matplotlib import pyplot as plt
from matplotlib.ticker import ScalarFormatter

Rows = Sequence[Mapping[str, Any]]
_DPI = 120


def plot_load(levels: Mapping[str, Rows], path: Path) -> None:
    """TTFA and underruns against the number of streams; ``levels``: rows of levels, by precision."""
    figure, (ttfa, gaps) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    for name, rows in levels.items():
        streams = [row["streams"] for row in rows]
        (line,) = ttfa.plot(streams, _numbers(rows, "TTFA p50 ms"), marker="o", label=f"{name}, median")
        ttfa.plot(
            streams,
            _numbers(rows, "TTFA p95 ms"),
            "--",
            marker=".",
            color=line.get_color(),
            label=f"{name}, p95",
        )
        gaps.plot(streams, _numbers(rows, "underruns a minute"), marker="o", label=name)
    ttfa.set(ylabel="TTFA, ms", ylim=(0, None), title="First sound, and gaps, by the number of live streams")
    gaps.set(ylabel="underruns in a minute of speech", xlabel="live streams")
    gaps.set_yscale("symlog", linthresh=1)
    gaps.set_ylim(0, max(1.0, gaps.get_ylim()[1]))
    gaps.yaxis.set_major_formatter(ScalarFormatter())
    gaps.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, (ttfa, gaps), path)


def plot_steps(rows: Rows, sides: Sequence[str], path: Path) -> None:
    """The time of a step against how many utterances take part; ``rows``: of whole steps, a column a side."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    batches = [row["size"] for row in rows]
    for side in sides:
        axes.plot(batches, _numbers(rows, side), marker="o", label=side)
    axes.axhline(80, color="grey", linestyle=":", label="a frame of sound, 80 ms")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set(xlabel="utterances together", ylabel="a frame of each, ms", title="Step time by batch")
    _save(figure, (axes,), path)


def _numbers(rows: Rows, name: str) -> list[float]:
    """A gap in the line where there is none."""
    return [float("nan") if row[name] is None else float(row[name]) for row in rows]


def _save(figure: Any, all_axes: Sequence[Any], path: Path) -> None:
    for axes in all_axes:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
