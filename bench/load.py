"""Load on a running server.

In: the URL of a server, or a checkpoint to start one with; a rate of arrivals, a number of sessions, or a
search for the largest one; a duration; a seed, which fixes arrivals and texts. Out: a table and, with --json,
a file: TTFA, lateness and underruns by the listener's clock, RTF, seconds of audio per second, errors by
code; with --plot, a picture. Does not know: how a listener measures.

    python -m bench.load --find --checkpoint FOLDER --precision int8      # the number of live streams
    python -m bench.load --find --url ws://127.0.0.1:8001/api/v1/speak --most 64
    python -m bench.load --rate 2 --duration 30
    python -m bench.load --sessions 4 --duration 60 --voice anna --texts lines.txt
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.listeners import (
    TEXTS,
    ListenerResult,
    closed_load,
    open_load,
    poisson,
    row_of,
    summary,
    without_gaps,
)
from bench.report import circumstances, facts, log, plot_load, table
from bench.server import PRECISIONS, ServerOptions, home, serving, thread_count
from makima_tts.protocol import Start

URL = "ws://127.0.0.1:8001/api/v1/speak"


@dataclass(slots=True)
class StreamSearch:
    """The next number of streams to try: grows by ``growth`` until there is a gap, then bisects.

    ``clean``: the largest number without a gap. ``gap_at``: the smallest with one. ``tolerance``: the
    uncertainty that may remain, as a share of ``clean``; 0 finds the exact number.
    """

    most: int
    first: int = 1
    growth: float = 2.0
    tolerance: float = 0.0
    clean: int = 0
    gap_at: int | None = None
    tried: set[int] = field(default_factory=set)

    def next(self) -> int | None:
        """None when the number is known."""
        streams = self._next()
        return None if streams in self.tried or streams < 1 else streams

    def record(self, streams: int, *, clean: bool) -> None:
        self.tried.add(streams)
        if clean:
            self.clean = max(self.clean, streams)
        else:
            self.gap_at = min(self.gap_at or streams, streams)

    def _next(self) -> int:
        if not self.tried:
            return min(self.first, self.most)
        if self.gap_at is None:
            return min(self.most, int(-(-self.clean * self.growth // 1)))
        if not self.clean:
            return self.gap_at * 2 // 3
        between = (self.clean + self.gap_at) // 2
        return between if self.gap_at - self.clean > max(1, self.clean * self.tolerance) else self.clean


@dataclass(slots=True)
class ConcurrencyLevel:
    """A number of streams, in one or more tries. ``clean``: tries without a gap."""

    streams: int
    results: list[ListenerResult] = field(default_factory=list)
    tries: int = 0
    clean: int = 0
    resident_mib: float | None = None


async def find_live_streams(
    url: str,
    start: Start,
    texts: Mapping[str, str],
    *,
    most: int,
    runs: int,
    listen_s: float,
    resident_mib: Callable[[], float] | None = None,
) -> tuple[list[int], list[ConcurrencyLevel]]:
    """The most streams without a gap, of each run; the levels that were tried in any run."""
    levels: dict[int, ConcurrencyLevel] = {}

    async def is_clean(streams: int) -> bool:
        level = levels.setdefault(streams, ConcurrencyLevel(streams))
        results, _ = await closed_load(url, streams, listen_s, texts, start=start, seed=level.tries)
        clean = without_gaps(results)
        level.results += results
        level.tries += 1
        level.clean += clean
        if resident_mib is not None:
            level.resident_mib = max(level.resident_mib or 0.0, resident_mib())
        log(f"{streams} streams: {'no gap' if clean else 'gaps'}")
        return clean

    found = []
    for _ in range(runs):
        search = StreamSearch(most)
        while (streams := search.next()) is not None:
            search.record(streams, clean=await is_clean(streams))
        found.append(search.clean)
    return found, [levels[streams] for streams in sorted(levels)]


def level_rows(levels: Sequence[ConcurrencyLevel]) -> list[dict[str, Any]]:
    """A row for each number of streams."""
    return [
        {
            "streams": level.streams,
            "tries without a gap": f"{level.clean} of {level.tries}",
            **row_of(level.results),
            "resident MiB": level.resident_mib,
        }
        for level in levels
    ]


def mib_per_stream(levels: Sequence[ConcurrencyLevel]) -> float | None:
    """Growth of memory from the fewest streams to the most, by stream; None with a single level."""
    known = [level for level in levels if level.resident_mib is not None]
    if len(known) < 2:
        return None
    fewest, most = known[0], known[-1]
    return ((most.resident_mib or 0.0) - (fewest.resident_mib or 0.0)) / (most.streams - fewest.streams)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=URL, help="of a running server")
    where.add_argument(
        "--checkpoint", type=Path, help="a folder: starts a server with it for the measurement"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the started server")
    parser.add_argument("--device", default="cpu", help="of the started server")
    parser.add_argument("--threads", type=int, help="of the started server; default: one per core")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--rate", type=float, default=1.0, help="listeners per second, on average")
    how_many.add_argument("--sessions", type=int, help="a number of concurrent listeners instead")
    how_many.add_argument("--find", action="store_true", help="the largest number without a gap instead")
    parser.add_argument("--most", type=int, default=8, help="with --find: the largest number to try")
    parser.add_argument("--runs", type=int, default=3, help="with --find: the median is taken of so many")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds in which listeners arrive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voice", help="default: the server's")
    parser.add_argument("--language", default="English", help="of the texts, a name or tag")
    parser.add_argument("--texts", type=Path, help="a file with a text a line; default: three texts")
    parser.add_argument("--json", type=Path, help="a file to write")
    parser.add_argument("--plot", type=Path, help="with --find: a PNG to write")
    return parser


@contextmanager
def _server(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], float] | None]]:
    """Its URL; and its memory in MiB, if it is started here."""
    if options.checkpoint is None:
        yield options.url, None
        return
    streams = max(options.most, options.sessions or 0)
    started = ServerOptions(options.checkpoint, options.precision, options.device, options.threads, streams)
    with home() as folder, serving(started, folder) as server:
        yield server.url, lambda: server.resident_mib(peak=True)


async def _measure(
    options: argparse.Namespace, url: str, resident_mib: Callable[[], float] | None
) -> dict[str, Any]:
    texts, start = TEXTS, Start(voice=options.voice, language=options.language)
    if options.texts:
        lines = enumerate(options.texts.read_text().splitlines(), start=1)
        texts = {f"line {number}": line for number, line in lines if line.strip()}
    if options.find:
        limits = {"most": options.most, "runs": options.runs, "listen_s": options.duration}
        found, levels = await find_live_streams(url, start, texts, **limits, resident_mib=resident_mib)
        return {
            "rows": level_rows(levels),
            "live streams": float(median(found)),
            "of each run": found,
            "MiB a stream": mib_per_stream(levels),
        }
    if options.sessions:
        load = closed_load(url, options.sessions, options.duration, texts, start=start, seed=options.seed)
        return summary(*await load)
    arrivals = list(poisson(options.rate, options.duration, options.seed, texts))
    return summary(*await open_load(url, arrivals, texts, start=start))


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    how_many = f"{options.sessions} at a time" if options.sessions else f"{options.rate:g} per second"
    how_often = f"seed {options.seed}"
    if options.find:
        how_many, how_often = f"1 to {options.most} at a time", f"{options.runs} runs"
    about = circumstances() | {"listeners": f"{how_many} for {options.duration:g} s, {how_often}"}
    if options.checkpoint:
        threads = thread_count(options.threads)
        about |= {"server": f"{options.precision} on {options.device}, {threads} threads"}
    with _server(options) as (url, resident_mib):
        found = asyncio.run(_measure(options, url, resident_mib))
    about |= {"load average after": circumstances()["load average"]}
    others = {name: value for name, value in found.items() if name != "rows"}
    print(f"{facts(about)}\n\n{table(found['rows'])}\n")
    print(facts({name: "none" if value in (None, {}) else value for name, value in others.items()}))
    if options.json:
        options.json.write_text(json.dumps({**about, **found}, indent=2))
    if options.plot and options.find:
        plot_load({options.precision if options.checkpoint else "the server": found["rows"]}, options.plot)


if __name__ == "__main__":
    main()
