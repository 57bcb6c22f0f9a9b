"""Laws of the order of work and the admission, on traces, in virtual time."""

from collections.abc import Sequence

import pytest

from bench.simulate import BEFORE, BOTH, CPU, DEADLINES, GPU, played
from tests.scheduling.arrival_traces import STORED, Arrival, bursts, conversations, poisson, stored
from tests.scheduling.virtual_clients import figures, served
from tests.scheduling.virtual_engine import Replica, SimulatedListener


def late_share(heard: Sequence[SimulatedListener]) -> float:
    return sum(each.late for each in heard) / len(heard)


def test_no_listener_runs_dry_on_a_machine_that_is_fast_enough() -> None:
    heard = played(GPU, BOTH, [poisson(15, 8, seed) for seed in range(2)])
    assert len(heard) > 150
    assert not any(each.late or each.refusals for each in heard)


def test_a_nearly_full_machine_is_in_time_for_the_streams_it_admitted() -> None:
    heard = played(CPU, BOTH, [poisson(0.3, 150, seed) for seed in range(3)])
    assert sum(each.refusals > 0 for each in heard) > 10
    assert late_share(heard) < 0.05
    assert max(late_s for each in heard for late_s in each.lateness_s) < 0.2


def test_deadlines_are_better_than_all_streams_in_every_step() -> None:
    for trace in ([poisson(0.1, 300, 1)], [stored()], [bursts(2, 15, 200, 1)]):
        arrivals = list(trace[0])
        assert late_share(played(CPU, BOTH, [arrivals])) < late_share(played(CPU, BEFORE, [arrivals])) / 4


def test_newcomers_start_to_play_however_many_streams_run() -> None:
    """Without admission control: running streams stutter, but no newcomer waits long."""
    heard = played(CPU, DEADLINES, [[Arrival(0.3 * number, 200) for number in range(8)]])
    assert all(each.first_s is not None and each.first_s - each.asked_s < 4 for each in heard)


def test_refusals_come_only_when_there_is_no_time() -> None:
    replica = Replica(CPU, BOTH, 0)
    asked = [SimulatedListener(0.0) for _ in range(8)]
    admitted = [replica.ask(Arrival(0.0, 300), heard, 0.0) is None for heard in asked]
    assert admitted == [number < replica.limit for number in range(8)]
    assert replica.limit > 1


@pytest.mark.parametrize("seed", range(4))
def test_a_client_that_returns_at_the_given_time_is_admitted(seed: int) -> None:
    replica = Replica(CPU, BOTH, seed)
    speaking = [Arrival(0.0, 60 + 30 * number) for number in range(replica.limit)]
    for arrival in speaking:
        assert replica.ask(arrival, SimulatedListener(0.0), 0.0) is None
    wait_s = replica.ask(Arrival(1.0, 80), SimulatedListener(1.0), 1.0)
    assert wait_s is not None
    assert replica.ask(Arrival(1.0 + wait_s, 80), SimulatedListener(1.0), 1.0 + wait_s) is None
    assert wait_s < sum(arrival.chars for arrival in speaking) / 15, "and not kept away for ever"


def test_encoding_voices_makes_hardly_any_stream_late() -> None:
    """Except by chance (a piece that ends unexpectedly early), and unlike before."""
    arrivals = [list(poisson(0.1, 120, seed)) for seed in range(8)]
    voices = [float(at_s) for at_s in range(5, 120, 15)]
    heard = played(CPU, BOTH, arrivals, voices)
    assert late_share(heard) < 0.05 < late_share(played(CPU, BEFORE, arrivals, voices))
    replica = Replica(CPU, BOTH, 0, [(1.0, [0.05] * 40)])
    served([replica], arrivals[0])
    replica.advance(replica.now_s + 5)
    assert not replica.has_work


def test_a_fleet_serves_every_client_that_retries_as_told() -> None:
    replicas = [Replica(GPU, BOTH, seed) for seed in range(3)]
    found = figures(served(replicas, list(poisson(90, 4, 0))))
    assert found["gave up %"] == 0
    assert found["late utterances %"] == 0


def test_a_seed_repeats_a_run_and_the_stored_trace_is_reproducible() -> None:
    first, again = (figures(played(CPU, BOTH, [poisson(0.2, 60, 3)])) for _ in range(2))
    assert first == again
    assert stored(STORED) == conversations(8, 120, 7)
