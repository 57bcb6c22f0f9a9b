"""Figures of several sides, set beside each other.

In: what each side measured. Out: rows of a table: medians, and how many times ours the reference's is. Does
not know: how anything was measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.children import Found
from bench.report import percentiles

Row = dict[str, Any]

# A title, and how the names of what belongs there begin.
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


def rows_of(columns: Mapping[str, Found]) -> list[Row]:
    """A row for everything that any of ours measured, in that order."""
    names = list(dict.fromkeys(name for side, found in columns.items() if _is_ours(side) for name in found))
    return [_row(columns, name, size) for name, size in names]


def sections(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By what they are about, without columns that say nothing there."""
    sorted_rows: dict[str, list[Row]] = {title: [] for title in _SECTIONS}
    for row in rows:
        title = next(title for title, begins in _SECTIONS.items() if row["what"].startswith(begins))
        sorted_rows[title].append(row)
    return {title: _without_empty(those) for title, those in sorted_rows.items() if those}


def step_rows(rows: Sequence[Row]) -> list[Row]:
    """Of whole steps, a row a batch."""
    return sorted((row for row in rows if row["what"] == _STEP), key=lambda row: int(row["size"]))


def _row(columns: Mapping[str, Found], name: str, size: int | None) -> Row:
    medians = {side: percentiles(found.get((name, size), []), 50)["p50"] for side, found in columns.items()}
    theirs = next((value for side, value in medians.items() if not _is_ours(side)), None)
    ratios = {
        f"reference ÷ {side}": theirs / ours if theirs and ours else None
        for side, ours in medians.items()
        if _is_ours(side)
    }
    return {"what": name, "size": size, **medians, **ratios}


def _is_ours(side: str) -> bool:
    return side.startswith("ours")


def _without_empty(rows: list[Row]) -> list[Row]:
    kept = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]
