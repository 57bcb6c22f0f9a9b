"""Parts of a measurement, each a process that may take so long and no longer.

In: commands and their limits. Out: how each ended, what it found, what it said. Does not know: what they do.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import ROOT


@dataclass(frozen=True, slots=True)
class Part:
    """``command``: of this Python. ``needs``: a path without which it is not begun."""

    name: str
    command: Sequence[str]
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status``: "ok", or what went wrong."""

    name: str
    status: str
    took_s: float
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.status == "ok"


def run_part(part: Part, folder: Path) -> Outcome:
    """Says what it does on stderr; everything that the part says is in ``log_of``."""
    if part.needs is not None and not part.needs.exists():
        return _told(Outcome(part.name, f"not begun: there is no {part.needs.name}", 0.0))
    began_s = time.monotonic()
    with log_of(part.name, folder).open("w") as log:
        status = _status(part, log)
    return _told(Outcome(part.name, status, time.monotonic() - began_s, _found(part.name, folder)))


def log_of(name: str, folder: Path) -> Path:
    return folder / f"{name}.log"


def found_by(name: str, folder: Path) -> Path:
    """The file into which it writes what it finds."""
    return folder / f"{name}.json"


def _found(name: str, folder: Path) -> dict[str, Any]:
    path = found_by(name, folder)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _status(part: Part, log: Any) -> str:
    with subprocess.Popen(
        [sys.executable, *part.command],
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that whatever it starts can be ended with it
    ) as process:
        try:
            code = process.wait(max(1.0, part.limit_s))
        except subprocess.TimeoutExpired:
            return f"took more than {part.limit_s:.0f} s"
        finally:
            _end_all(process)
    return "ok" if code == 0 else f"ended with {code}"


def _end_all(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing of it is left


def _told(outcome: Outcome) -> Outcome:
    print(f"{outcome.name}: {outcome.status}, {outcome.took_s:.0f} s", file=sys.stderr, flush=True)
    return outcome
