"""Clients in virtual time, who do as they are told: try another replica, then come again when it was said.

In: replicas, arrivals, a seed. Out: what each of them heard, and what it comes to. Does not know: how a
replica works.
"""

import heapq
from collections.abc import Iterable, Sequence
from random import Random

from bench.report import percentiles
from bench.simulate_engine import Heard, Replica
from bench.simulate_traces import Arrival

# Replicas that are asked one after the other; then the shortest wait is waited.
_ASKED_AT_ONCE = 3
_MOST_VISITS = 12

Figures = dict[str, float | int | None]


def served(replicas: Sequence[Replica], arrivals: Iterable[Arrival], seed: int = 0) -> list[Heard]:
    """Everybody, in order of arrival, whether or not he was let in."""
    random = Random(seed)
    everybody = [(arrival.at_s, number, arrival) for number, arrival in enumerate(arrivals)]
    heard = [Heard(at_s) for at_s, _number, _arrival in everybody]
    heapq.heapify(everybody)
    while everybody:
        now_s, number, arrival = heapq.heappop(everybody)
        wait_s = _visit(replicas, Arrival(now_s, arrival.chars), heard[number], random)
        if wait_s is not None and heard[number].told < _MOST_VISITS:
            heapq.heappush(everybody, (now_s + wait_s, number, arrival))
    for replica in replicas:
        replica.finish()
    return heard


def _visit(replicas: Sequence[Replica], arrival: Arrival, heard: Heard, random: Random) -> float | None:
    """None when one of them lets him in; else when to come again."""
    waits_s = []
    for replica in random.sample(replicas, min(_ASKED_AT_ONCE, len(replicas))):
        wait_s = replica.ask(arrival, heard, arrival.at_s)
        if wait_s is None:
            return None
        waits_s.append(wait_s)
    heard.in_vain += heard.told > 0
    heard.told += 1
    return min(waits_s)


def figures(heard: Sequence[Heard]) -> Figures:
    """TTFA from the moment of being let in, and from first asking; shares are of listeners."""
    first = [each for each in heard if each.first_s is not None and each.let_in_s is not None]
    ttfa_ms = [1e3 * ((each.first_s or 0) - (each.let_in_s or 0)) for each in first]
    asked_ms = [1e3 * ((each.first_s or 0) - each.asked_s) for each in first]
    late_ms = [1e3 * late_s for each in heard for late_s in each.lateness_s]
    told = sum(each.told for each in heard)
    return {
        "listeners": len(heard),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 99).items()},
        "TTFA since first asking p95 ms": percentiles(asked_ms, 95)["p95"],
        "late utterances %": _share(sum(each.late for each in first), len(first)),
        "lateness p99 ms": percentiles(late_ms, 99)["p99"],
        "lateness max ms": round(max(late_ms, default=0.0), 1),
        "refused %": _share(sum(each.told > 0 for each in heard), len(heard)),
        "refused again %": _share(sum(each.in_vain for each in heard), told),
        "gave up %": _share(sum(each.let_in_s is None for each in heard), len(heard)),
    }


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
