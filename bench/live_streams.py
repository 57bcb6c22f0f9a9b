"""How many can be spoken to at once before somebody hears a gap.

In: a URL, how many at most. Out: the largest number without an underrun, and what was heard at each number
that was tried. Does not know: why it is not more.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.hearing import Heard, occupy
from bench.report import percentiles
from makima_tts.protocol import Start


@dataclass(slots=True)
class Level:
    """So many streams at any time, in one or more tries. ``clean``: of how many nobody heard a gap."""

    streams: int
    heard: list[Heard] = field(default_factory=list)
    tries: int = 0
    clean: int = 0
    resident_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """``most``: how many are tried. ``listen_s``: how long those who are through are followed by others."""

    most: int
    runs: int = 3
    listen_s: float = 20.0


async def most_without(is_clean: Callable[[int], Awaitable[bool]], most: int) -> int:
    """The largest number that is clean, if every smaller one is: found by doubling, then by halving."""
    best, tried = 0, 1
    while tried <= most and await is_clean(tried):
        best, tried = tried, 2 * tried
    beyond = min(tried, most + 1)
    while beyond - best > 1:
        middle = (best + beyond) // 2
        if await is_clean(middle):
            best = middle
        else:
            beyond = middle
    return best


async def find_live_streams(
    url: str,
    start: Start,
    texts: Mapping[str, str],
    search: Search,
    *,
    resident_mib: Callable[[], float] | None = None,
    say: Callable[[str], object] = lambda _line: None,
) -> tuple[list[int], list[Level]]:
    """The number of each run; the levels that were tried in any of them."""
    levels: defaultdict[int, Level] = defaultdict(lambda: Level(0))

    async def is_clean(streams: int) -> bool:
        level = levels[streams]
        level.streams, seed = streams, level.tries
        heard, _ = await occupy(url, start, streams, search.listen_s, seed=seed, texts=texts)
        clean = not any(each.underruns or each.error for each in heard)
        level.heard += heard
        level.tries += 1
        level.clean += clean
        if resident_mib is not None:
            level.resident_mib = max(level.resident_mib or 0.0, resident_mib())
        say(f"{streams} streams: {'nobody heard a gap' if clean else 'gaps'}")
        return clean

    found = [await most_without(is_clean, search.most) for _ in range(search.runs)]
    return found, [levels[streams] for streams in sorted(levels)]


def level_rows(levels: Sequence[Level]) -> list[dict[str, Any]]:
    """A line for each number of streams."""
    return [_row(level) for level in levels]


def _row(level: Level) -> dict[str, Any]:
    ttfa_ms = [each.ttfa_s * 1000 for each in level.heard if each.ttfa_s is not None]
    late_ms = [lateness_s * 1000 for each in level.heard for lateness_s in each.lateness_s if lateness_s > 0]
    audio_s = sum(each.audio_s for each in level.heard)
    rtf = [each.rtf for each in level.heard if each.rtf is not None]
    return {
        "streams": level.streams,
        "tries without a gap": f"{level.clean} of {level.tries}",
        "listeners": len(level.heard),
        "errors": sum(each.error is not None for each in level.heard),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 100).items()},
        "underruns": len(late_ms),
        "underruns a minute": round(len(late_ms) / audio_s * 60, 2) if audio_s else None,
        **{f"lateness {rank} ms": value for rank, value in percentiles(late_ms, 50, 95).items()},
        "RTF p50": percentiles(rtf, 50)["p50"],
        "resident MiB": level.resident_mib,
    }


def of_all_runs(found: Sequence[int]) -> float:
    """Their median."""
    return float(median(found))


def mib_a_stream(levels: Sequence[Level]) -> float | None:
    """What every further stream took, from the fewest to the most of them; None with one level only."""
    known = [level for level in levels if level.resident_mib is not None]
    if len(known) < 2:
        return None
    fewest, most = known[0], known[-1]
    return ((most.resident_mib or 0.0) - (fewest.resident_mib or 0.0)) / (most.streams - fewest.streams)
