"""Server processes under test, observed from outside.

In: a command that prints ``listening URL`` (or any line with its URL). Out: its events as they are printed,
its memory, its open files, its end. Does not know: what the process serves.
"""

import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import IO, Self

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
_URL = re.compile(r"http://(?P<host>\S+):(?P<port>\d+)")


class ServerProcess:
    """Started on enter, killed on exit if it still runs. Tests check that the recorded stderr is empty."""

    def __init__(self, command: list[str], *, env: dict[str, str] | None = None) -> None:
        with _interrupts_reach_children():
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._complaints: list[str] = []
        self._readers = [
            self._follow(self._process.stdout, self._lines.put),
            self._follow(self._process.stderr, self._complaints.append),
        ]
        self.pid = self._process.pid
        self.url, self.host, self.port = "", "", 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    @staticmethod
    def _follow(pipe: IO[str] | None, keep: Callable[[str], None]) -> threading.Thread:
        assert pipe is not None

        def follow() -> None:
            while line := pipe.readline():
                keep(line)
            keep("")

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        return reader

    def until_listening(self) -> Self:
        found = _URL.search(self.expect("http://", anywhere=True))
        assert found is not None
        self.url = found.group()
        self.host, self.port = found["host"].strip("[]"), int(found["port"])
        return self

    def expect(self, event: str, *, within_s: float = PATIENCE_S, anywhere: bool = False) -> str:
        """The next line with ``event``; skips the lines before it."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event!r} within {within_s} s; stderr: {self.complaints}") from None
            if not line:
                self.wait()
                raise AssertionError(f"ended without {event!r}; stderr: {self.complaints}")
            if line == event + "\n" or (anywhere and event in line):
                return line

    def signal(self, number: Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code."""
        code = self._process.wait(within_s)
        for reader in self._readers:
            reader.join(within_s)
        return code

    @property
    def complaints(self) -> str:
        """Its stderr; complete once it has exited."""
        return "".join(self._complaints)

    def catches(self, number: Signals) -> bool:
        """Whether it has a handler for this signal."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (number - 1) & 1)

    @property
    def open_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def _interrupts_reach_children() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and exec passes that on. It resets a handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def eventually(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Whether a condition of another process becomes true in time, checked by polling."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def start_toy(*options: str) -> ServerProcess:
    return ServerProcess([sys.executable, "-W", "error", "-m", "tests.transport.toy_service", *options])


def let_in(toy: ServerProcess) -> None:
    """Open the gate at which ``/late`` and ``/late_upload`` wait."""
    urllib.request.urlopen(f"http://{toy.host}:{toy.port}/let_in", timeout=PATIENCE_S).close()
