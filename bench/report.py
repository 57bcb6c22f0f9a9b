"""What is written about a measurement, beside its numbers.

In: numbers. Out: percentiles, tables, the machine and how busy it was. Does not know: what was measured.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np


def percentiles(values: Sequence[float], *wanted: float) -> dict[str, float | None]:
    """``{"p50": …}``, interpolated, rounded to 3 digits; None where there is nothing to rank."""
    if not values:
        return dict.fromkeys(f"p{rank:g}" for rank in wanted)
    return {f"p{rank:g}": round(float(np.percentile(values, rank)), 3) for rank in wanted}


def circumstances() -> dict[str, str]:
    """Date, machine, Python, and the load average, which says who else was at work."""
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


def table(rows: Sequence[Mapping[str, object]]) -> str:
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
