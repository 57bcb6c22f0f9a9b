"""Our service, measured as a client meets it.

In: a checkpoint, a precision. Out: figures by name, a value for each run; the levels of load. Does not know:
the model's parts, the reference package.
"""

import argparse
import asyncio
from collections.abc import Callable

from bench.hearing import Heard, listen
from bench.interruptions import company, gaps, places_taken_ms
from bench.live_streams import Level, Search, find_live_streams, mib_a_stream
from bench.running_server import Choice, Server, home, serving
from bench.spoken import LANGUAGE, TEXT
from makima_tts.model import CpuPrecision
from makima_tts.protocol import Start

_TEXTS = {"five seconds": TEXT}
_START = Start(language=LANGUAGE)

Figures = dict[str, list[float]]


def measure_service(
    given: argparse.Namespace,
    precision: CpuPrecision,
    *,
    beside: Callable[[], None],
    say: Callable[[str], object],
) -> tuple[Figures, list[Level]]:
    """``beside``: what the other side does after every utterance of ours."""
    figures: Figures = {}

    def choice(streams: int) -> Choice:
        return Choice(given.checkpoint, precision, given.device, given.threads, streams)

    with home() as folder:
        say(f"a server with one place, {precision} …")
        with serving(choice(1), folder) as server:
            figures["start to ready, with a voice to encode, s"] = [server.start_s]
            _add(figures, asyncio.run(places_taken_ms(server.url, TEXT, given.runs)))
        say(f"a server with {given.most} places, {precision} …")
        with serving(choice(given.most), folder) as server:
            figures["start to ready, s"] = [server.start_s]
            figures["memory when ready, MiB"] = [server.resident_mib()]
            _measure_one(server, given.runs, figures, beside)
            levels = asyncio.run(_measure_many(server, given, figures, say))
            figures["memory at most, MiB"] = [server.resident_mib(peak=True)]
    return figures, levels


def _measure_one(server: Server, runs: int, figures: Figures, beside: Callable[[], None]) -> None:
    for _ in range(runs):
        heard = asyncio.run(listen(server.url, _START, "five seconds", _TEXTS))
        _add(figures, _of_one(heard))
        beside()


def _of_one(heard: Heard) -> dict[str, float]:
    assert heard.error is None, heard.error
    assert heard.ttfa_s is not None
    assert heard.rtf is not None
    return {
        "RTF, one stream": heard.rtf,
        "TTFA, one stream, ms": heard.ttfa_s * 1e3,
        "audio, one stream, s": heard.audio_s,
    }


async def _measure_many(
    server: Server, given: argparse.Namespace, figures: Figures, say: Callable[[str], object]
) -> list[Level]:
    found, levels = await find_live_streams(
        server.url,
        _START,
        _TEXTS,
        Search(given.most, given.runs, given.listen),
        resident_mib=lambda: server.resident_mib(peak=True),
        say=say,
    )
    figures["live streams without a gap"] = [float(streams) for streams in found]
    if (taken_mib := mib_a_stream(levels)) is not None:
        figures["memory of a further stream, MiB"] = [taken_mib]
    streams = max(1, sorted(found)[len(found) // 2] - 1)
    say(f"others come while {streams} speak …")
    _add(figures, gaps(await company(server, _START, _TEXTS, streams, given.listen), streams))
    return levels


def _add(figures: Figures, more: dict[str, float]) -> None:
    for name, value in more.items():
        figures.setdefault(name, []).append(value)
