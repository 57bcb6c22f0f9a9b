"""What the service itself costs, around an engine that costs nothing.

In: nothing but the machine. Out: a table and, with --json, a file: the overhead from an engine's chunk to
the client's socket at several numbers of speaking sessions, the memory of an idle connection, connections
per second. Does not know: any model. Server and clients are processes of their own on this one machine, so
the clients' own work is in the overhead too.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.processes import cpu_s, line_of, resident_kib, running
from bench.report import circumstances, percentiles, table

CLIENT_PROCESSES = 4
SPEAKING = (1, 100, 500)
IDLE = 1000


class Server:
    """A stamping server in a process of its own. ``url`` is its WebSocket."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self.url = f"{line_of(process).replace('http', 'ws', 1)}/api/v1/speak"


class Crowd:
    """Listeners in several processes, which take each step together."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self.answers()

    def answers(self) -> list[str]:
        """One line of each, once it has it."""
        return [line_of(process) for process in self._processes]

    def step(self) -> list[str]:
        """All take their next step; what they answer once it is done."""
        for process in self._processes:
            print(file=process.stdin, flush=True)
        return self.answers()


@contextmanager
def serving(chunk_frames: int) -> Iterator[Server]:
    with (
        TemporaryDirectory() as folder,
        running(
            "bench.stamping_server",
            "--frames",
            str(chunk_frames),
            environment={
                "TTS_PORT": "0",
                "TTS_MAX_CONNECTIONS": "2000",
                "TTS_LOG_LEVEL": "error",
                "TTS_VOICES_DIR": f"{folder}/voices",
                "TTS_CACHE_DIR": f"{folder}/cache",
            },
        ) as process,
    ):
        yield Server(process)


@contextmanager
def crowd(url: str, count: int, seconds: float = 0.0) -> Iterator[Crowd]:
    """So many listeners, not yet connected, spread over several processes."""
    shares = [len(range(first, count, CLIENT_PROCESSES)) for first in range(CLIENT_PROCESSES)]
    with ExitStack() as stack:
        yield Crowd(
            [
                stack.enter_context(running("bench.listeners", url, str(share), str(seconds)))
                for share in shares
                if share
            ]
        )


def overhead(count: int, chunk_frames: int, seconds: float) -> dict[str, Any]:
    """Milliseconds from a chunk's making to its arrival, while ``count`` sessions are speaking."""
    with serving(chunk_frames) as server, crowd(server.url, count, seconds) as listeners:
        listeners.step()
        began_s, began_cpu_s = time.monotonic(), cpu_s(server.pid)
        took_ms = [ms for answer in listeners.step() for ms in json.loads(answer)]
        cpu = (cpu_s(server.pid) - began_cpu_s) / (time.monotonic() - began_s)
    return {
        "speaking": count,
        "chunk ms": chunk_frames * 80,
        "chunks": len(took_ms),
        **{f"{rank} ms": value for rank, value in percentiles(took_ms, 50, 99).items()},
        "max ms": round(max(took_ms), 3),
        "server CPU, cores": round(cpu, 2),
    }


def connections(count: int) -> dict[str, Any]:
    """How fast ``count`` sessions start, and what each costs while it is idle."""
    with serving(1) as server:
        with crowd(server.url, 2 * CLIENT_PROCESSES) as warm_up:
            warm_up.step()
        with crowd(server.url, count) as listeners:
            before_kib, began_s = resident_kib(server.pid), time.monotonic()
            listeners.step()
            took_s = time.monotonic() - began_s
            each_kib = (resident_kib(server.pid) - before_kib) / count
    return {
        "idle connections": count,
        "KiB each": round(each_kib, 1),
        "connections per second": round(count / took_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of listening, for each row")
    parser.add_argument("--json", type=Path, help="a file to write")
    given = parser.parse_args()
    about = circumstances()
    overheads = [overhead(count, frames, given.seconds) for frames in (1, 4) for count in SPEAKING]
    idle = connections(IDLE)
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{table(overheads)}\n\n{table([idle])}")
    if given.json:
        given.json.write_text(json.dumps({**about, "overhead": overheads, "connections": idle}, indent=2))


if __name__ == "__main__":
    main()
