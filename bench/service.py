"""The cost of the service itself, measured around an engine without cost.

In: nothing but the machine. Out: a table and, with --json, a file: the overhead from an engine's chunk to
the client's socket at several numbers of speaking sessions, the memory of an idle connection, connections
per second. Does not know: any model.

The engine sends silence in real time, from a thread of its own as an engine on a GPU does, and writes into
each chunk the time at which it was made. Its utterances are not in step with each other. Server and clients
are processes of their own on this one machine, so the clients' own work is in the overhead too.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.report import circumstances, facts, percentiles, table
from bench.server import cpu_s, line_of, resident_kib, running
from makima_tts import factory, logs
from makima_tts.client import SpeechClient
from makima_tts.errors import VoiceNotFound
from makima_tts.protocol import LANGUAGES, Start
from makima_tts.server import process
from makima_tts.settings import Settings
from makima_tts.speech import (
    AudioChunk,
    EngineFacts,
    EngineHealth,
    ProgressReport,
    SpeechSink,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)

SPEAKING = (1, 100, 500)
IDLE = 1000
SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
CLIENT_PROCESSES = 4
# Each client process opens so many connections at a time; more would measure the accept queue.
CONNECTING = 16
# Sessions begin over this long, so that their chunks are spread as those of independent speakers are.
SPREAD_S = 1.0
WARM_UP_S = 2.0

STAMP_SAMPLES = 4
_DIGIT = 1 << 16


def write_stamp(pcm: npt.NDArray[np.float32], time_ns: int) -> None:
    """Overwrites the first samples of float32 [n] with ``time_ns``, 16 bits in each.

    They come through pcm32f at the engine's own rate unchanged.
    """
    for index in range(STAMP_SAMPLES):
        pcm[index] = (time_ns >> (16 * index)) % _DIGIT / _DIGIT


def read_stamp(pcm: bytes) -> int:
    """The nanoseconds in the first samples of little-endian pcm32f."""
    digits = np.frombuffer(pcm, "<f4", STAMP_SAMPLES) * _DIGIT
    return sum(int(digit) << (16 * index) for index, digit in enumerate(digits))


class StampingEngine:
    """A SpeechEngine whose every utterance goes on until it is cancelled."""

    facts = EngineFacts(
        name="stamping",
        model="stamped silence",
        fingerprint="stamping-1",
        sample_rate_hz=SAMPLE_RATE_HZ,
        languages=LANGUAGES,
        cloning=False,
        note="Silence that holds the time at which it was made.",
    )

    def __init__(self, chunk_frames: int) -> None:
        self._chunk_samples = chunk_frames * FRAME_SAMPLES
        self._opened = SimpleQueue[SpeechSink | None]()
        # When the next chunk of each utterance is due.
        self._due: list[tuple[float, int, SpeechSink]] = []
        self._thread = threading.Thread(target=self._run, name="stamping", daemon=True)

    async def start(self, report: ProgressReport) -> None:
        self._thread.start()
        report("nothing to load", 1.0)

    async def encode_voice(self, reference: VoiceReference) -> VoicePrompt:
        raise VoiceNotFound("This engine cannot clone voices.")

    def open(self, request: UtteranceRequest) -> SpeechStream:
        stream, sink = SpeechStream.create(buffer_samples=SAMPLE_RATE_HZ * 10)
        self._opened.put(sink)
        return stream

    def health(self) -> EngineHealth:
        return EngineHealth(alive=self._thread.is_alive(), active=len(self._due))

    async def close(self) -> None:
        self._opened.put(None)

    def _run(self) -> None:
        order = itertools.count()
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            try:
                sink = self._opened.get(timeout=wait_s)
            except Empty:
                self._put_chunk(*heapq.heappop(self._due))
            else:
                if sink is None:
                    return
                heapq.heappush(self._due, (time.monotonic(), next(order), sink))

    def _put_chunk(self, ready_at_s: float, order: int, sink: SpeechSink) -> None:
        if sink.cancelled:
            return
        if sink.has_credit:
            while sink.take_piece() is not None:
                pass
            pcm = np.zeros(self._chunk_samples, np.float32)
            write_stamp(pcm, time.monotonic_ns())
            sink.put(AudioChunk(pcm, piece_index=0))
        heapq.heappush(self._due, (ready_at_s + self._chunk_samples / SAMPLE_RATE_HZ, order, sink))


def _serve(chunk_frames: int, folder: Path) -> None:
    """The real service, in this process; its address is the first line of output."""
    settings = Settings(
        port=0,
        max_connections=2000,
        log_level="error",
        voices_dir=folder / "voices",
        cache_dir=folder / "cache",
    )
    logs.configure(settings.log_level, settings.log_format)
    service = factory.build_service(settings, StampingEngine(chunk_frames))
    process.run(
        factory.build_app(settings, service),
        service,
        host=settings.host,
        port=settings.port,
        stall_timeout_s=settings.stall_timeout_s,
        drain_timeout_s=settings.drain_timeout_s,
        on_listening=lambda url: print(url, flush=True),
    )


@contextmanager
def serving(chunk_frames: int) -> Iterator[tuple[int, str]]:
    """The process id of a server with a StampingEngine, and the URL of its WebSocket."""
    with (
        TemporaryDirectory() as folder,
        running("bench.service", "serve", str(chunk_frames), folder) as server,
    ):
        yield server.pid, f"{line_of(server).replace('http', 'ws', 1)}/api/v1/speak"


async def _connect(stack: AsyncExitStack, url: str, count: int) -> list[SpeechClient]:
    """Sessions that have started, closed with the stack."""
    limit = asyncio.Semaphore(CONNECTING)

    async def connect() -> SpeechClient:
        async with limit:
            return await stack.enter_async_context(SpeechClient.connect(url, Start(encoding="pcm32f")))

    return await asyncio.gather(*(connect() for _ in range(count)))


async def _listen(client: SpeechClient, delay_s: float, from_s: float, until_s: float) -> list[float]:
    """The overhead, in ms, of each chunk received between two times of ``time.monotonic``."""
    await asyncio.sleep(delay_s)
    speech = client.speak("Go on.")
    overhead_ms: list[float] = []
    async for chunk in speech:
        if chunk.received_s >= until_s:
            await speech.cancel()
            return overhead_ms
        if chunk.received_s >= from_s:
            overhead_ms.append(chunk.received_s * 1e3 - read_stamp(chunk.pcm) / 1e6)
    return overhead_ms


async def _run_clients(url: str, count: int, seconds: float) -> None:
    """Clients that connect, then receive; a line of input starts each step, a line of output ends it."""
    async with AsyncExitStack() as stack:
        await _next_step("imported")
        clients = await _connect(stack, url, count)
        await _next_step("connected")
        from_s = time.monotonic() + SPREAD_S + WARM_UP_S
        listening = (
            _listen(client, SPREAD_S * number / count, from_s, from_s + seconds)
            for number, client in enumerate(clients)
        )
        print(json.dumps([ms for each in await asyncio.gather(*listening) for ms in each]), flush=True)


async def _next_step(reached: str) -> None:
    print(reached, flush=True)
    await asyncio.to_thread(input)


@contextmanager
def clients(url: str, count: int, seconds: float) -> Iterator[Callable[[], list[str]]]:
    """Processes of clients. A call starts the next step in all, and returns their lines of output."""
    shares = [len(range(first, count, CLIENT_PROCESSES)) for first in range(CLIENT_PROCESSES)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running("bench.service", "clients", url, str(share), str(seconds)))
            for share in shares
            if share
        ]

        def next_step() -> list[str]:
            for each in processes:
                print(file=each.stdin, flush=True)
            return [line_of(each) for each in processes]

        for each in processes:
            line_of(each)
        yield next_step


def overhead(count: int, chunk_frames: int, seconds: float) -> dict[str, Any]:
    """Milliseconds from the making of a chunk to its arrival, while ``count`` sessions are speaking."""
    with serving(chunk_frames) as (pid, url), clients(url, count, seconds) as next_step:
        next_step()
        folder = Path(f"/proc/{pid}")
        began_s, began_cpu_s = time.monotonic(), cpu_s(folder)
        took_ms = [ms for line in next_step() for ms in json.loads(line)]
        cores = (cpu_s(folder) - began_cpu_s) / (time.monotonic() - began_s)
    return {
        "speaking": count,
        "chunk ms": chunk_frames * 80,
        "chunks": len(took_ms),
        **{f"{rank} ms": value for rank, value in percentiles(took_ms, 50, 99).items()},
        "max ms": round(max(took_ms), 3),
        "server CPU, cores": round(cores, 2),
    }


def connections(count: int) -> dict[str, Any]:
    """Time to start ``count`` sessions, and the memory of an idle one."""
    with serving(1) as (pid, url):
        with clients(url, 2 * CLIENT_PROCESSES, 0.0) as warm_up:
            warm_up()
        with clients(url, count, 0.0) as next_step:
            before_kib, began_s = resident_kib(pid), time.monotonic()
            next_step()
            took_s = time.monotonic() - began_s
            each_kib = (resident_kib(pid) - before_kib) / count
    return {
        "idle connections": count,
        "KiB each": round(each_kib, 1),
        "connections per second": round(count / took_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of listening, for each row")
    parser.add_argument("--json", type=Path, help="a file to write")
    options = parser.parse_args()
    about = circumstances()
    overheads = [overhead(count, frames, options.seconds) for frames in (1, 4) for count in SPEAKING]
    idle = connections(IDLE)
    print(f"{facts(about)}\n\n{table(overheads)}\n\n{table([idle])}")
    if options.json:
        options.json.write_text(json.dumps({**about, "overhead": overheads, "connections": idle}, indent=2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", frames, path]:
            _serve(int(frames), Path(path))
        case ["clients", address, number, duration_s]:
            asyncio.run(_run_clients(address, int(number), float(duration_s)))
        case _:
            main()
