"""A server on the device, as clients meet it; and the peer, faster-qwen3-tts, beside it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from bench.gpu.plugin import Part, Results
from bench.gpu.report import CHECKPOINT_WRITTEN, card_gb
from bench.listeners import (
    ListenerPool,
    ListenerResult,
    audio_per_second,
    listen,
    listener_pool,
    row_of,
    without_gaps,
)
from bench.load import StreamSearch
from bench.report import percentiles
from bench.served import next_turns_ms
from bench.server import ROOT, Server, ServerOptions, line_of, running, serving
from bench.voice import FIVE_SECONDS, LONG_TRANSCRIPT, SHORT, TWENTY_SECONDS, write_voice

# As many slots as later servers have; more bring no new sizes of kernels.
COMPILED_STREAMS = 256
STREAMS = 8
RATES_HZ = (1, 10, 20)
_MAX_SLOTS = 512
# The memory of a stream on the card, and the share of the card's that all may take.
_STREAM_GB = 0.2
_MEMORY_SHARE = 0.7
_LISTENER_PROCESSES = 8
# Sound made before all speak, and when the last ones end, does not count for the throughput.
_BEGINNING_S = 3.0
_ENDING_S = 1.0
_TEXTS = {"five seconds": FIVE_SECONDS, "short": SHORT}


def _serving(part: Part, streams: int) -> AbstractContextManager[Server]:
    options = ServerOptions(
        part.checkpoint, part.precision, part.device, threads=1 if part.dry else None, streams=streams
    )
    return serving(options, part.folder / "home")


def _listen(server: Server, text: str, times: int) -> list[ListenerResult]:
    """One after the other."""

    async def listeners() -> list[ListenerResult]:
        return [await listen(server.url, text, _TEXTS) for _ in range(times)]

    return asyncio.run(listeners())


def test_checkpoint(part: Part, results: Results) -> None:
    """Writes what the later parts need: a checkpoint, compiled kernels, an encoded voice."""
    write_voice(part.folder / "home" / "voices", transcript=LONG_TRANSCRIPT)
    began_s = time.monotonic()
    if part.dry:
        from tests.checkpoints import write_ending_checkpoint  # noqa: PLC0415, torch takes seconds

        write_ending_checkpoint(part.checkpoint)
    else:
        command = ["-m", "tests.checkpoints", str(part.checkpoint), "--ends-with-text"]
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
    results.add({"writing a checkpoint, s": time.monotonic() - began_s})
    (part.folder / CHECKPOINT_WRITTEN).touch()
    with _serving(part, 2 if part.dry else COMPILED_STREAMS) as server:
        results.add({"first start to ready, kernels compiled, s": server.start_s})
        (first,) = _listen(server, "short", 1)
        results.add({"first TTFA, a voice encoded, ms": first.ttfa_s and 1e3 * first.ttfa_s})


def test_turns(prepared: Part, results: Results) -> None:
    """Time from a cancel or disconnect to the first audio of the next utterance, with one slot."""
    with _serving(prepared, 1) as server:
        results.add({"start to ready, one place, s": server.start_s})
        results.add(asyncio.run(next_turns_ms(server.url, FIVE_SECONDS, 1 if prepared.dry else 7)))


def test_single(prepared: Part, results: Results) -> None:
    """One listener at a time, then eight together, of a server with the default number of slots."""
    before_gb = card_gb("memory.used")

    def grown_gb() -> float | None:
        now_gb = card_gb("memory.used")
        return None if now_gb is None or before_gb is None else now_gb - before_gb

    with _serving(prepared, STREAMS) as server:
        results.add({"start to ready, s": server.start_s, "memory when ready, GB": grown_gb()})
        _measure_single(server, prepared, results)
        with listener_pool(1) as pool:
            texts = {"short": SHORT} if prepared.dry else {"five seconds": FIVE_SECONDS}
            eight = pool.closed_load(server.url, texts, STREAMS, 0.2 if prepared.dry else 4.0, spread_s=0.1)
        results.add_row("One listener", {"who": f"{STREAMS} at any time", **row_of(eight)})
        resident_gb = server.resident_mib(peak=True) * 2**20 / 1e9
        results.add({f"memory, {STREAMS} streams, GB": grown_gb()})
        results.add({"memory of the server's process, at most, GB": resident_gb})


def _measure_single(server: Server, part: Part, results: Results) -> None:
    first = _listen(server, "five seconds", 1)
    results.add_row("One listener", {"who": "the first of all, five seconds", **row_of(first)})
    row = row_of(_listen(server, "five seconds", 1 if part.dry else 40))
    results.add_row("One listener", {"who": "five seconds", **row})
    results.add({f"one stream, {name}": row[name] for name in ("TTFA p50 ms", "TTFA p95 ms")})
    short = _listen(server, "short", 1 if part.dry else 12)
    results.add_row("One listener", {"who": "a short phrase", **row_of(short)})
    spans_ms = [1e3 * (each.arrivals[-1][0] - each.arrivals[0][0]) for each in short if each.arrivals]
    named = {
        f"short phrase, first to last byte, {rank} ms": ms
        for rank, ms in percentiles(spans_ms, 50, 95).items()
    }
    results.add(named)


def test_load(prepared: Part, results: Results) -> None:
    """Many listeners, of a server with as many slots as the card has memory for."""
    slots, processes = 4, 1
    if not prepared.dry:
        processes = _LISTENER_PROCESSES
        streams = _MEMORY_SHARE * (card_gb("memory.total") or 80.0) / _STREAM_GB
        slots = min(_MAX_SLOTS, int(streams / 32) * 32)
    results.add({"places": float(slots)})
    with _serving(prepared, slots) as server, listener_pool(processes) as pool:
        results.add({"start to ready, all places, s": server.start_s})
        _measure_arrivals(server, pool, prepared, results)
        _measure_throughput(server, pool, prepared, results, slots)
        measure_live_streams(server, pool, prepared, results, most=slots)


def _load_texts(part: Part) -> dict[str, str]:
    return {"short": SHORT} if part.dry else {"five seconds": FIVE_SECONDS}


def _measure_arrivals(server: Server, pool: ListenerPool, part: Part, results: Results) -> None:
    for rate_hz in RATES_HZ:
        duration_s = 0.3 if part.dry else 8.0 if rate_hz == 1 else 12.0
        row = row_of(pool.open_load(server.url, _load_texts(part), 10.0 if part.dry else rate_hz, duration_s))
        results.add_row("Listeners who come at random", {"a second": rate_hz, **row})
        for name in ("TTFA p50 ms", "TTFA p95 ms", "audible p95 ms", "underruns"):
            results.add({f"{rate_hz} a second, {name}": row[name]})


def _measure_throughput(server: Server, pool: ListenerPool, part: Part, results: Results, slots: int) -> None:
    streams = min(slots, 3 if part.dry else 256)
    beginning_s, ending_s, duration_s = (0.1, 0.1, 0.5) if part.dry else (_BEGINNING_S, _ENDING_S, 12.0)
    heard = pool.closed_load(server.url, _load_texts(part), streams, duration_s)
    results.add_row("As many as there is room for", {"at any time": streams, **row_of(heard)})
    results.add({"audio seconds per second": audio_per_second(heard, beginning_s, duration_s - ending_s)})


def measure_live_streams(
    server: Server, pool: ListenerPool, part: Part, results: Results, *, most: int
) -> None:
    """Short tries find the most streams without a gap; a minute confirms it, or a smaller number.

    Each listener says texts of twenty seconds, and the next when one has been played.
    """
    texts = {"five seconds": FIVE_SECONDS} if part.dry else {"twenty seconds": TWENTY_SECONDS}
    # The margin is for listeners who still speak when a try is over.
    try_s, confirm_s, spread_s, margin_s = (0.1, 0.3, 0.1, 0.5) if part.dry else (10.0, 60.0, 4.0, 5.0)
    search = StreamSearch(most, first=2 if part.dry else 256, growth=1.25, tolerance=1 / 16)

    def is_time_for(*tries_s: float) -> bool:
        return time.monotonic() + sum(tries_s) + len(tries_s) * spread_s + margin_s < part.until_s

    def is_clean(streams: int, duration_s: float) -> bool:
        options = {"spread_s": spread_s, "plays": True}
        heard = pool.closed_load(server.url, texts, streams, duration_s + spread_s, **options)
        results.add_row("Live streams", {"streams": streams, "seconds": duration_s, **row_of(heard)})
        return without_gaps(heard)

    while (streams := search.next()) is not None and is_time_for(try_s + margin_s, confirm_s):
        search.record(streams, clean=is_clean(streams, try_s))
        # 0 until a minute confirms more
        results.add({"live streams, short tries": float(search.clean), "live streams": 0.0})
    # Without time for a single try, the first number may hold all the same.
    streams = search.clean or search.next() or 0
    while streams and is_time_for(confirm_s):
        if is_clean(streams, confirm_s):
            results.add({"live streams": float(streams)})
            return
        streams = int(streams * 0.85)


def test_peer(prepared: Part, results: Results) -> None:
    """It runs in a process of its own, with packages of its own (MAKIMA_BENCH_PEER_PATH)."""
    arguments = ("bench.gpu.peer", str(prepared.checkpoint), prepared.device)
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    if path := os.environ.get("MAKIMA_BENCH_PEER_PATH"):
        environment["PYTHONPATH"] = path
    with running(*arguments, environment=environment) as process:
        while found := json.loads(line_of(process)):
            add_peer_figures(found, results)


def add_peer_figures(found: Mapping[str, Any], results: Results) -> None:
    """``found``: a line of ``bench.gpu.peer``: figures, or the utterances of a chunk size."""
    if "utterances" not in found:
        results.add(found)
        return
    chunk_frames, heard = found["chunk_frames"], found["utterances"]
    ttfa_ms = percentiles([each["ttfa_ms"] for each in heard], 50, 95)
    row = {
        "chunk, frames": chunk_frames,
        "utterances": len(heard),
        **{f"TTFA {rank} ms": value for rank, value in ttfa_ms.items()},
        "RTF p50": percentiles([each["rtf"] for each in heard], 50)["p50"],
        "audio p50 s": percentiles([each["audio_s"] for each in heard], 50)["p50"],
    }
    results.add_row("faster-qwen3-tts, one utterance at a time", row)
    for name in ("TTFA p50 ms", "TTFA p95 ms", "RTF p50"):
        results.add({f"peer, chunks of {chunk_frames}, {name}": row[name]})
