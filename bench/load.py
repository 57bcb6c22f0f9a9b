"""Load on a server: listeners arrive at random, or so many stay, or ever more until somebody hears a gap.

In: the URL of a server that runs, or a checkpoint to start one with; a rate, a number of sessions, or how
many to try; a duration, a seed (which fixes who arrives when, and says what). Out: a table and, with --json,
a file: TTFA, lateness and underruns by the listener's clock, RTF, audio made per second, errors by code; with
--plot, a picture. Does not know: how a listener is counted.

    python -m bench.load --find --checkpoint FOLDER --precision int8      # the number of live streams
    python -m bench.load --find --url ws://127.0.0.1:8001/api/v1/speak --most 64
    python -m bench.load --rate 2 --duration 30
    python -m bench.load --sessions 4 --duration 60 --voice anna --texts lines.txt
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.hearing import TEXTS, arrivals, load, occupy, summary
from bench.live_streams import Search, find_live_streams, level_rows, mib_a_stream, of_all_runs
from bench.processes import thread_count
from bench.report import circumstances, table
from bench.running_server import Choice, home, serving
from bench.served_precisions import PRECISIONS
from makima_tts.protocol import Start

URL = "ws://127.0.0.1:8001/api/v1/speak"


def texts_in(path: Path) -> dict[str, str]:
    """A text a line, named by its number."""
    lines = enumerate(path.read_text().splitlines(), start=1)
    return {f"line {number}": line for number, line in lines if line.strip()}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=URL, help="of a server that runs")
    where.add_argument("--checkpoint", type=Path, help="a folder; starts a server with it, and ends that")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the server it starts")
    parser.add_argument("--device", default="cpu", help="of that server")
    parser.add_argument("--threads", type=int, help="of that server; else as many as there are cores")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--rate", type=float, default=1.0, help="listeners per second, on average")
    how_many.add_argument("--sessions", type=int, help="so many listeners at any time instead")
    how_many.add_argument("--find", action="store_true", help="the most at any time without a gap")
    parser.add_argument("--most", type=int, default=8, help="with --find: how many are tried at most")
    parser.add_argument("--runs", type=int, default=3, help="with --find: of which the median is taken")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds in which they arrive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voice", help="else the server's default")
    parser.add_argument("--language", default="English", help="of the texts, a name or tag")
    parser.add_argument("--texts", type=Path, help="a file with a text a line, in place of three of ours")
    parser.add_argument("--json", type=Path, help="a file to write")
    parser.add_argument("--plot", type=Path, help="with --find: a PNG to write")
    return parser


@contextmanager
def server_of(given: argparse.Namespace) -> Iterator[tuple[str, Callable[[], float] | None]]:
    """Its URL; and its memory in MiB, where it is ours."""
    if given.checkpoint is None:
        yield given.url, None
        return
    streams = max(given.most, given.sessions or 0)
    choice = Choice(given.checkpoint, given.precision, given.device, given.threads, streams)
    with home() as folder, serving(choice, folder) as server:
        yield server.url, lambda: server.resident_mib(peak=True)


async def found_by(
    given: argparse.Namespace, url: str, resident_mib: Callable[[], float] | None
) -> dict[str, Any]:
    """Everything that is reported."""
    texts = texts_in(given.texts) if given.texts else TEXTS
    start = Start(voice=given.voice, language=given.language)
    if given.find:
        search = Search(given.most, given.runs, given.duration)
        found, levels = await find_live_streams(
            url, start, texts, search, resident_mib=resident_mib, say=_say
        )
        return {
            "rows": level_rows(levels),
            "live streams": of_all_runs(found),
            "of each run": found,
            "MiB a stream": mib_a_stream(levels),
        }
    if given.sessions:
        seed, duration_s = given.seed, given.duration
        return summary(*await occupy(url, start, given.sessions, duration_s, seed=seed, texts=texts))
    return summary(
        *await load(url, start, list(arrivals(given.rate, given.duration, given.seed, texts)), texts)
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _how_many(given: argparse.Namespace) -> str:
    if given.find:
        return f"1 to {given.most} at a time for {given.duration:g} s, {given.runs} runs"
    how_many = f"{given.sessions} at a time" if given.sessions else f"{given.rate:g} per second"
    return f"{how_many} for {given.duration:g} s, seed {given.seed}"


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    about = circumstances() | {"listeners": _how_many(given)}
    if given.checkpoint:
        about |= {"server": f"{given.precision} on {given.device}, {thread_count(given.threads)} threads"}
    with server_of(given) as (url, resident_mib):
        found = asyncio.run(found_by(given, url, resident_mib))
    about |= {"load average after": circumstances()["load average"]}
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{table(found['rows'])}\n")
    for name, value in found.items():
        if name != "rows":
            print(f"{name}: {value if value is not None and value != {} else 'none'}")
    if given.json:
        given.json.write_text(json.dumps({**about, **found}, indent=2))
    if given.plot and given.find:
        from bench.plots import plot_load  # noqa: PLC0415, matplotlib takes a second

        plot_load({given.precision if given.checkpoint else "the server": found["rows"]}, given.plot)


if __name__ == "__main__":
    main()
