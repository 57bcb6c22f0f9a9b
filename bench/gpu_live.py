"""The stream limit: how many listen at once, without a gap, for a minute.

In: a server, an audience, until when there is to be an answer. Out: the largest number that was tried without
a gap. Does not know: why it is not more.

Each speaks texts of twenty seconds, and the next when one has been played. Short tries find a number; a
minute confirms it, or a smaller one.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.audience import Audience
from bench.gpu_findings import FIVE_SECONDS, TWENTY_SECONDS, Findings, Given
from bench.gpu_served import is_clean, met
from bench.running_server import Server

_TEXTS = {"twenty seconds": TWENTY_SECONDS}
_DRY_TEXTS = {"five seconds": FIVE_SECONDS}
_FIRST = 256
_DRY_FIRST = 2
_FEWER = 0.85


@dataclass(frozen=True, slots=True)
class Pace:
    """``margin_s``: beyond a try's own time, for those who still speak when it is over."""

    texts: Mapping[str, str]
    try_s: float
    confirm_s: float
    spread_s: float
    margin_s: float


@dataclass(slots=True)
class Ladder:
    """Which number is tried next. ``clean``: the largest without a gap; ``beyond``: the smallest with one."""

    most: int
    first: int
    clean: int = 0
    beyond: int | None = None
    tried: set[int] = field(default_factory=set)

    def next(self) -> int | None:
        """None when it is known closely enough."""
        streams = self._guess()
        return None if streams in self.tried or streams < 1 else streams

    def keep(self, streams: int, *, clean: bool) -> None:
        self.tried.add(streams)
        if clean:
            self.clean = max(self.clean, streams)
        else:
            self.beyond = min(self.beyond or streams, streams)

    def _guess(self) -> int:
        if not self.tried:
            return min(self.first, self.most)
        if self.beyond is None:
            return min(self.most, -(-self.clean * 5 // 4))
        if not self.clean:
            return self.beyond * 2 // 3
        between = (self.clean + self.beyond) // 2
        return between if self.beyond - self.clean > max(1, self.clean // 16) else self.clean


class Search:
    """Tries until the time is needed for the confirmation."""

    def __init__(self, url: str, listeners: Audience, pace: Pace, until_s: float, findings: Findings) -> None:
        self._url = url
        self._listeners = listeners
        self._pace = pace
        self._until_s = until_s
        self._findings = findings

    def find(self, ladder: Ladder) -> None:
        while (streams := ladder.next()) is not None and self._is_time_for(
            self._pace.try_s + self._pace.margin_s, self._pace.confirm_s
        ):
            ladder.keep(streams, clean=self._try(streams, self._pace.try_s))
            self._findings.add({"live streams, short tries": float(ladder.clean)})

    def confirm(self, streams: int) -> None:
        """Fewer and fewer, as long as there is time."""
        while streams and self._is_time_for(self._pace.confirm_s):
            if self._try(streams, self._pace.confirm_s):
                self._findings.add({"live streams": float(streams)})
                return
            streams = int(streams * _FEWER)

    def _is_time_for(self, *seconds: float) -> bool:
        """For tries of so many seconds each, besides those in which listeners come."""
        coming_s = len(seconds) * self._pace.spread_s
        return time.monotonic() + sum(seconds) + coming_s + self._pace.margin_s < self._until_s

    def _try(self, streams: int, duration_s: float) -> bool:
        heard = self._listeners.stay(
            self._url,
            self._pace.texts,
            streams,
            duration_s + self._pace.spread_s,
            spread_s=self._pace.spread_s,
            plays=True,
        )
        self._findings.add_row("Live streams", {"streams": streams, "seconds": duration_s, **met(heard)})
        return is_clean(heard)


def measure_live(
    server: Server, listeners: Audience, given: Given, findings: Findings, *, most: int, until_s: float
) -> None:
    """``most``: how many there is room for. ``until_s``: by ``time.monotonic``."""
    pace = Pace(_DRY_TEXTS, 0.1, 0.3, 0.1, 0.5) if given.dry else Pace(_TEXTS, 10.0, 60.0, 4.0, 5.0)
    ladder = Ladder(most, _DRY_FIRST if given.dry else _FIRST)
    search = Search(server.url, listeners, pace, until_s, findings)
    search.find(ladder)
    if ladder.tried:
        findings.add({"live streams": 0.0})  # until a minute confirms more
    # Where there was no time to find one, what would have been tried next may hold all the same.
    search.confirm(ladder.clean or ladder.next() or 0)
