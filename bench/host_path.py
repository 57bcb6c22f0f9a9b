"""Host time per GPU stream: the engine's thread and the event loop, and the streams that they can carry.

In: how many streams, for how long. Out: processor time for each frame of a stream by thread, times to the
first sound, gaps, sound in a second, how late the host goes on. Does not know: how fast a GPU is; the device
takes what is aimed at for one (bench/paced_device.py), or nothing.

    python -m bench.host_path --streams 32 128 256

Listeners are in processes of their own. On a machine of few cores they take their share of it: the processor
time of the server's threads counts, which does not depend on theirs.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.listeners import ListenerPool, audio_per_second, listener_pool, row_of
from bench.paced_device import LATENESS, PACE
from bench.report import circumstances, percentiles, table
from bench.server import Server, ServerOptions, cpu_s, home, serving
from bench.voice import FIVE_SECONDS, LONG_TRANSCRIPT, TWENTY_SECONDS
from tests.checkpoints import write_ending_checkpoint

FRAMES_A_SECOND = 12.5
_SPREAD_S = 2.0
# Of all threads but the first, the engine's is the one that does anything.
_LOOP, _ENGINE = "event loop", "engine thread"


def thread_s(pid: int) -> dict[str, float]:
    """Processor time so far: of the engine's thread, and of the one that the process began with."""
    spent = {_LOOP: 0.0, _ENGINE: 0.0}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        spent[_LOOP if int(folder.name) == pid else _ENGINE] += cpu_s(folder)
    return spent


def late_ms(server: Server, folder: Path) -> dict[str, Any]:
    """Delays between the device's end of work and the engine's thread, since the last call."""
    told = folder / "lateness"
    told.unlink(missing_ok=True)
    os.kill(server.pid, signal.SIGUSR1)
    while not told.exists():
        time.sleep(0.01)
    late = [float(line) * 1e3 for line in told.read_text().split()]
    return {f"woken late {rank} ms": value for rank, value in percentiles(late, 50, 95).items()}


@contextmanager
def paced(checkpoint: Path, streams: int, scale: float) -> Iterator[Server]:
    choice = ServerOptions(checkpoint, "fp32", threads=1, streams=streams, module="bench.paced_server")
    os.environ[PACE], os.environ[LATENESS] = str(scale), str(checkpoint.parent / "lateness")
    with home(LONG_TRANSCRIPT) as folder, serving(choice, folder) as server:
        yield server


def stay(
    server: Server, listeners: ListenerPool, streams: int, seconds: float, *, plays: bool
) -> dict[str, Any]:
    """A fixed number of sessions; each speaks again once its audio was played (``plays``) or received."""
    text = TWENTY_SECONDS if plays else FIVE_SECONDS
    before = thread_s(server.pid)
    heard = listeners.closed_load(
        server.url, {"text": text}, streams, seconds + _SPREAD_S, spread_s=_SPREAD_S, plays=plays
    )
    spent = {name: after - before.get(name, 0.0) for name, after in thread_s(server.pid).items()}
    frames = sum(each.audio_s for each in heard) * FRAMES_A_SECOND
    row = {"streams": streams, **row_of(heard), **_per_frame(spent, frames)}
    return row if plays else row | {"audio s/s": audio_per_second(heard, _SPREAD_S, seconds)}


def come(server: Server, listeners: ListenerPool, rate_hz: float, seconds: float) -> dict[str, Any]:
    heard = listeners.open_load(server.url, {"text": FIVE_SECONDS}, rate_hz, seconds)
    return {"a second": rate_hz, **row_of(heard)}


def _per_frame(spent_s: dict[str, float], frames: float) -> dict[str, float]:
    return {f"{name}, us a frame": 1e6 * seconds / max(frames, 1) for name, seconds in spent_s.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--rates", type=float, nargs="*", default=[1, 10, 20], help="listeners a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--processes", type=int, default=2, help="of listeners")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder:
        checkpoint = write_ending_checkpoint(Path(folder) / "checkpoint")
        with listener_pool(options.processes) as listeners:
            for streams in options.streams:
                with paced(checkpoint, streams, 1.0) as server:
                    live = stay(server, listeners, streams, options.seconds, plays=True)
                    live |= late_ms(server, Path(folder))
                rows.setdefault("live streams, a GPU as it is aimed at", []).append(live)
                with paced(checkpoint, streams, 0.0) as server:
                    most = stay(server, listeners, streams, options.seconds, plays=False)
                rows.setdefault("as much as the host can, a device that takes no time", []).append(most)
            for rate_hz in options.rates:
                with paced(checkpoint, max(options.streams), 1.0) as server:
                    rows.setdefault("listeners who come", []).append(
                        come(server, listeners, rate_hz, options.seconds)
                    )
    for title, some in rows.items():
        print(f"\n{title}\n{table(some)}")
    if options.json:
        options.json.write_text(json.dumps(rows | {"circumstances": circumstances()}, indent=1))


if __name__ == "__main__":
    main()
