"""The machine that measures, and its card.

In: nothing. Out: names and versions, memory that is taken. Does not know: what is measured.
"""

import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from bench.report import circumstances

_PACKAGES = ("torch", "triton", "numpy")
_PATIENCE_S = 20.0


def about() -> dict[str, str]:
    """What stands above every table."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {**circumstances(), "card": card("name"), "driver": card("driver_version"), **versions}


def card(*asked: str) -> str:
    """What nvidia-smi says of the first card; "none" without one."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    query = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits", "--id=0"]
    said = subprocess.run(
        query, check=False, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE_S
    ).stdout.strip()
    return said or "none"


def taken_gb() -> float | None:
    """Of the card's memory, by everyone."""
    return _gigabytes(card("memory.used"))


@cache
def total_gb() -> float | None:
    return _gigabytes(card("memory.total"))


def _gigabytes(said: str) -> float | None:
    """nvidia-smi counts in MiB."""
    return float(said) * 2**20 / 1e9 if said.replace(".", "").isdigit() else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
