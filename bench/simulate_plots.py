"""The plots of docs/scheduling.md.

In: the rows of ``bench.simulate``. Out: PNG files. Does not know: where the rows come from.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

# The same bytes for the same figures.
_PNG = {"Software": None}
_COLOURS = {"before": "#c0392b", "admission": "#e0a030", "deadlines": "#5b8def", "both": "#1f7a4d"}
_LATE, _REFUSED, _TTFA = "late utterances %", "refused %", "TTFA p95 ms"


def draw(found: Mapping[str, Rows], folder: Path) -> None:
    """One file for each part that was played, but for those that are a table."""
    drawn = {"loads": _loads, "fleet": _fleet, "defaults": _defaults}
    for name, picture in drawn.items():
        if name in found:
            figure = picture(found[name])
            figure.savefig(folder / f"scheduling-{name}.png", dpi=90, metadata=_PNG)
            plt.close(figure)


def _machines(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["machine"] for row in rows))


def _loads(rows: Rows) -> Figure:
    """A row of panels for each machine."""
    machines = _machines(rows)
    figure, panels = plt.subplots(
        len(machines), 3, figsize=(12, 3.3 * len(machines)), squeeze=False, layout="constrained"
    )
    for machine, across in zip(machines, panels, strict=True):
        of_machine = [row for row in rows if row["machine"] == machine]
        for panel, column in zip(across, (_LATE, _TTFA, _REFUSED), strict=True):
            for policy, colour in _COLOURS.items():
                here = [row for row in of_machine if row["policy"] == policy]
                rates = [float(row["trace"].removesuffix("/s")) for row in here]
                panel.plot(rates, [row[column] for row in here], "o-", color=colour, label=policy)
            _words(panel, f"{machine}\n{column}", "listeners per second")
    panels[0][0].legend()
    return figure


def _fleet(rows: Rows) -> Figure:
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
    for panel, column in zip(panels, (_LATE, "TTFA since first asking p95 ms", _REFUSED), strict=True):
        for policy in ("before", "both"):
            here = [row for row in rows if row["policy"] == policy]
            replicas = [int(row["trace"].split()[0]) for row in here]
            panel.plot(replicas, [row[column] for row in here], "o-", color=_COLOURS[policy], label=policy)
        _words(panel, column, "replicas for 10 000 listeners in 10 s")
    panels[0].legend()
    return figure


def _defaults(rows: Rows) -> Figure:
    """A column of panels for each figure that was changed: the share that was late, and TTFA."""
    machines, names = _machines(rows), list(dict.fromkeys(row["changed"] for row in rows))
    figure, panels = plt.subplots(
        3, len(names), figsize=(2.6 * len(names), 7.5), squeeze=False, layout="constrained"
    )
    for across, column in zip(panels, (_LATE, _TTFA, _REFUSED), strict=True):
        for panel, name in zip(across, names, strict=True):
            for machine in machines:
                here = [row for row in rows if row["machine"] == machine and row["changed"] == name]
                label = machine.removesuffix(" (assumed)")
                panel.plot([row["value"] for row in here], [row[column] for row in here], "o-", label=label)
            panel.set_ylim(bottom=0)
            _words(panel, column, name)
    panels[0][0].legend(fontsize=7)
    return figure


def _words(panel: Axes, title: str, below: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.set_xlabel(below, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
