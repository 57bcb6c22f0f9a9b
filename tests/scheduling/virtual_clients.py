"""Clients in virtual time, which do as they are told: try another replica, then retry at the given time.

In: replicas, arrivals, a seed. Out: what each of them heard, and what it comes to. Does not know: how a
replica works.
"""

import heapq
from collections.abc import Iterable, Sequence
from random import Random

from bench.report import percentiles
from tests.scheduling.arrival_traces import Arrival
from tests.scheduling.virtual_engine import Replica, SimulatedListener

# Replicas that are asked one after the other; then the shortest wait is waited.
_ASKED_AT_ONCE = 3
_MOST_VISITS = 12

Figures = dict[str, float | int | None]


def served(
    replicas: Sequence[Replica], arrivals: Iterable[Arrival], seed: int = 0
) -> list[SimulatedListener]:
    """All listeners in order of arrival, admitted or not."""
    random = Random(seed)
    requests = [(arrival.at_s, number, arrival) for number, arrival in enumerate(arrivals)]
    heard = [SimulatedListener(at_s) for at_s, _number, _arrival in requests]
    heapq.heapify(requests)
    while requests:
        now_s, number, arrival = heapq.heappop(requests)
        wait_s = _visit(replicas, Arrival(now_s, arrival.chars), heard[number], random)
        if wait_s is not None and heard[number].refusals < _MOST_VISITS:
            heapq.heappush(requests, (now_s + wait_s, number, arrival))
    for replica in replicas:
        replica.finish()
    return heard


def _visit(
    replicas: Sequence[Replica], arrival: Arrival, heard: SimulatedListener, random: Random
) -> float | None:
    """None if one of them admits it; else when to retry."""
    waits_s = []
    for replica in random.sample(replicas, min(_ASKED_AT_ONCE, len(replicas))):
        wait_s = replica.ask(arrival, heard, arrival.at_s)
        if wait_s is None:
            return None
        waits_s.append(wait_s)
    heard.refused_again += heard.refusals > 0
    heard.refusals += 1
    return min(waits_s)


def figures(heard: Sequence[SimulatedListener]) -> Figures:
    """TTFA from admission, and from first asking; shares are of listeners."""
    first = [each for each in heard if each.first_s is not None and each.admitted_s is not None]
    ttfa_ms = [1e3 * ((each.first_s or 0) - (each.admitted_s or 0)) for each in first]
    asked_ms = [1e3 * ((each.first_s or 0) - each.asked_s) for each in first]
    late_ms = [1e3 * late_s for each in heard for late_s in each.lateness_s]
    refusals = sum(each.refusals for each in heard)
    return {
        "listeners": len(heard),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 99).items()},
        "TTFA since first asking p95 ms": percentiles(asked_ms, 95)["p95"],
        "late utterances %": _share(sum(each.late for each in first), len(first)),
        "lateness p99 ms": percentiles(late_ms, 99)["p99"],
        "lateness max ms": round(max(late_ms, default=0.0), 1),
        "refused %": _share(sum(each.refusals > 0 for each in heard), len(heard)),
        "refused again %": _share(sum(each.refused_again for each in heard), refusals),
        "gave up %": _share(sum(each.admitted_s is None for each in heard), len(heard)),
    }


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
