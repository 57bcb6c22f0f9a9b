"""Processes of a measurement, and what they take of the machine.

In: a command. Out: the process, its lines, its memory and processor time. Does not know: what it does.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


@contextmanager
def running(
    *arguments: str, environment: Mapping[str, str] | None = None, python: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python module in a process with pipes; ended on leaving, since nothing of it is kept."""
    with subprocess.Popen(
        [str(python or sys.executable), "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next that it says."""
    stdout: IO[str] | None = process.stdout
    assert stdout is not None
    line = stdout.readline().strip()
    if not line:
        process.wait()  # it has something to say of that on stderr
    assert line, "a process of this measurement has ended; what it said is above"
    return line


def threads(count: int | None) -> dict[str, str]:
    """In a process's environment: so many threads of a CPU for its arithmetic; None: as many as it has."""
    return {} if count is None else {"OMP_NUM_THREADS": str(count)}


def thread_count(asked: int | None) -> int:
    """How many ``threads`` comes to."""
    return asked or int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def resident_kib(pid: int, *, peak: bool = False) -> int:
    """Physical memory: now, or the most so far."""
    wanted = "VmHWM" if peak else "VmRSS"
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(wanted))


def cpu_s(pid: int) -> float:
    """Processor time so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
