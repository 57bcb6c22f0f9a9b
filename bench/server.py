"""Processes of a measurement, first of all the real server with a Qwen3-TTS.

In: a command, or a checkpoint with a device and a precision. Out: a process, its lines, its memory and
processor time; a server's URL once it is ready. Does not know: the listeners.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from bench.voice import TRANSCRIPT, VOICE, write_voice
from makima_tts.errors import ModelLoading
from makima_tts.model import CpuPrecision, Precision

ROOT = Path(__file__).parents[1]
# On a CPU; a GPU has those of ``ANYWHERE``.
PRECISIONS: tuple[CpuPrecision, ...] = ("fp32", "bf16", "int8", "int4")
ANYWHERE: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}
_TIMEOUT_S = 1800.0
_POLL_S = 0.05


@contextmanager
def running(
    *arguments: str, environment: Mapping[str, str] | None = None, python: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python module in a process with pipes, killed at the end."""
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
    """The next line of its output."""
    stdout: IO[str] | None = process.stdout
    assert stdout is not None
    line = stdout.readline().strip()
    if not line:
        process.wait()  # until its error message is on stderr
    assert line, "a process of this measurement has ended; its error message is above"
    return line


def threads(count: int | None) -> dict[str, str]:
    """The environment of a process with this many CPU threads for torch; None: one per core."""
    return {} if count is None else {"OMP_NUM_THREADS": str(count)}


def thread_count(count: int | None) -> int:
    """The number of threads that ``threads(count)`` sets."""
    return count or int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def resident_kib(pid: int, *, peak: bool = False) -> int:
    """Physical memory: now, or the most so far."""
    field = "VmHWM" if peak else "VmRSS"
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def cpu_s(folder: Path) -> float:
    """Processor time so far of a process or thread, by its folder in /proc."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """``threads`` None: one per core. ``streams``: the most utterances at once.

    ``module``: a Python module with the command line of ``makima_tts``.
    """

    checkpoint: Path
    precision: CpuPrecision
    device: str = "cpu"
    threads: int | None = None
    streams: int = 8
    module: str = "makima_tts"

    def settings(self, folder: Path) -> dict[str, str]:
        """The server's environment. ``slots``: it refuses no utterance for the sake of others."""
        return {
            "TTS_ENGINE": "qwen3",
            "TTS_MODEL_ID": str(self.checkpoint),
            "TTS_OFFLINE": "true",
            "TTS_DEVICE": self.device,
            "TTS_PRECISION": ANYWHERE.get(self.precision, "auto"),
            "TTS_CPU_PRECISION": self.precision,
            "TTS_ADMISSION": "slots",
            "TTS_MAX_STREAMS": str(self.streams),
            "TTS_DEFAULT_VOICE": VOICE,
            "TTS_VOICES_DIR": str(folder / "voices"),
            "TTS_CACHE_DIR": str(folder / "cache"),
            "TTS_UTTERANCE_TIMEOUT_S": str(_TIMEOUT_S),
            "TTS_LOAD_TIMEOUT_S": str(_TIMEOUT_S),
            "TTS_MAX_SESSION_S": str(_TIMEOUT_S),
            "TTS_LOG_LEVEL": "error",
            **threads(self.threads),
        }


@dataclass(frozen=True, slots=True)
class Server:
    """``start_s``: from the start of the process until it was ready."""

    pid: int
    address: str
    start_s: float

    @property
    def url(self) -> str:
        return f"{self.address.replace('http', 'ws', 1)}/api/v1/speak"

    def resident_mib(self, *, peak: bool = False) -> float:
        return resident_kib(self.pid, peak=peak) / 1024


@contextmanager
def home(transcript: str = TRANSCRIPT) -> Iterator[Path]:
    """A server's folders, with the measured voice. A later server in them finds the voice encoded."""
    with TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        write_voice(Path(folder) / "voices", transcript=transcript)
        yield Path(folder)


@contextmanager
def serving(options: ServerOptions, folder: Path) -> Iterator[Server]:
    """A server that is ready, with its voices and cache in ``folder``."""
    began_s = time.monotonic()
    with running(options.module, "serve", "--port", "0", environment=options.settings(folder)) as process:
        address = next(word for word in line_of(process).split() if word.startswith("http://"))
        _await_ready(address)
        yield Server(process.pid, address, time.monotonic() - began_s)


def _await_ready(address: str) -> None:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=_TIMEOUT_S).close()  # noqa: S310, our own server
            return
        except urllib.error.HTTPError as error:
            failure = json.loads(error.read())["error"]
            assert failure["code"] == ModelLoading.code, failure["message"]
            assert time.monotonic() < deadline_s, "the server did not become ready"
            time.sleep(_POLL_S)
