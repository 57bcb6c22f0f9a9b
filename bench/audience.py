"""Listeners in several processes, so that what they cost is neither the server's nor each other's.

In: a URL, who comes when or how many stay, and what they say. Out: what each of them met. Does not know: how
listening is done.

As a process of its own it is one of these: an order, a line of JSON each, on stdin; who heard what on stdout.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from bench.hearing import SPREAD_S, Heard, arrivals, load, occupy
from bench.processes import line_of, running
from bench.spoken import LANGUAGE
from makima_tts.protocol import Start

_START = Start(language=LANGUAGE)


@dataclass(frozen=True, slots=True)
class Order:
    """For one process. ``rate_hz``: so many come a second; else ``sessions`` stay, and ``plays`` counts."""

    url: str
    texts: Mapping[str, str]
    duration_s: float
    seed: int
    rate_hz: float = 0.0
    sessions: int = 0
    spread_s: float = SPREAD_S
    plays: bool = False


class Audience:
    """Its processes are there, and wait for orders."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        for process in processes:
            line_of(process)

    def come(self, url: str, texts: Mapping[str, str], rate_hz: float, duration_s: float) -> list[Heard]:
        """A Poisson process, which is the sum of as many slower ones."""
        share_hz = rate_hz / len(self._processes)
        return self._hear(
            [Order(url, texts, duration_s, seed, rate_hz=share_hz) for seed, _ in enumerate(self._processes)]
        )

    def stay(
        self,
        url: str,
        texts: Mapping[str, str],
        sessions: int,
        duration_s: float,
        *,
        spread_s: float = SPREAD_S,
        plays: bool = False,
    ) -> list[Heard]:
        """So many at any time; see ``bench.hearing.occupy``."""
        shares = [len(range(first, sessions, self._count)) for first in range(self._count)]
        return self._hear(
            [
                Order(url, texts, duration_s, seed, sessions=share, spread_s=spread_s, plays=plays)
                for seed, share in enumerate(shares)
            ]
        )

    @property
    def _count(self) -> int:
        return len(self._processes)

    def _hear(self, orders: list[Order]) -> list[Heard]:
        for process, order in zip(self._processes, orders, strict=True):
            print(json.dumps(asdict(order)), file=process.stdin, flush=True)
        answers: list[list[dict[str, Any]]] = [json.loads(line_of(process)) for process in self._processes]
        return [Heard(**each) for each in chain.from_iterable(answers)]


@contextmanager
def audience(processes: int) -> Iterator[Audience]:
    with ExitStack() as stack:
        yield Audience([stack.enter_context(running("bench.audience")) for _ in range(processes)])


async def carry_out(order: Order) -> list[Heard]:
    if order.rate_hz:
        expected = list(arrivals(order.rate_hz, order.duration_s, order.seed, order.texts))
        return (await load(order.url, _START, expected, order.texts))[0]
    heard, _ = await occupy(
        order.url,
        _START,
        order.sessions,
        order.duration_s,
        seed=order.seed,
        texts=order.texts,
        spread_s=order.spread_s,
        plays=order.plays,
    )
    return heard


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        heard = asyncio.run(carry_out(Order(**json.loads(line))))
        print(json.dumps([asdict(each) for each in heard]), flush=True)


if __name__ == "__main__":
    main()
