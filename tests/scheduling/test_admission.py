"""Who is let in, and what the others are told; and what it is decided on."""

import pytest
from hypothesis import given, strategies as st

from makima_tts.engines.qwen3.scheduler import HEADROOM, Admission, CostMeter, Costs, EngineLoad

FRAME_S = 0.08
# 20 ms and 10 more for each stream, and 5 for its sound.
COSTS = Costs(((1, 0.03), (8, 0.1)), decodes=((1, 0.005),))


def test_as_many_streams_are_admitted_as_an_iteration_has_time_for() -> None:
    admission = Admission("realtime", 8)
    limit = admission.limit(EngineLoad(COSTS, FRAME_S))
    assert COSTS.iteration_s(limit) <= HEADROOM * FRAME_S < COSTS.iteration_s(limit + 1)
    assert limit == 3


def test_the_limit_follows_the_measured_costs_and_the_slots() -> None:
    fast = Costs(((1, 0.001), (8, 0.002)))
    assert Admission("realtime", 8).limit(EngineLoad(fast, FRAME_S)) == 8
    assert Admission("realtime", 4).limit(EngineLoad(fast, FRAME_S)) == 4


def test_the_first_stream_is_admitted_however_slow_the_machine_is() -> None:
    slow = EngineLoad(Costs(((1, 3.0),)), FRAME_S)
    admission = Admission("realtime", 8)
    assert not admission.depends_on_batch_costs(slow)
    assert admission.wait_s(slow, 0, 0.0) is None
    assert admission.wait_s(slow, 1, 0.0) is not None


def test_the_slots_rule_counts_only_slots() -> None:
    slow = EngineLoad(Costs(((1, 3.0),)), FRAME_S)
    admission = Admission("slots", 2)
    assert admission.wait_s(slow, 1, 0.0) is None
    assert admission.wait_s(slow, 2, 0.0) is not None


def test_each_refused_client_is_told_another_time() -> None:
    admission = Admission("realtime", 8)
    load = EngineLoad(COSTS, FRAME_S, (104.0, 102.0, 108.0))
    waits = [admission.wait_s(load, 3, 100.0) for _ in range(4)]
    assert all(wait is not None for wait in waits)
    assert waits[0] == pytest.approx(2.0, rel=0.5)
    assert waits[1] == pytest.approx(4.0, rel=0.5)
    assert waits == sorted(waits, key=lambda wait: wait or 0)


def test_a_promise_that_no_client_came_for_is_forgotten() -> None:
    admission = Admission("realtime", 8)
    load = EngineLoad(COSTS, FRAME_S, (102.0, 150.0, 160.0))
    first = admission.wait_s(load, 3, 100.0)
    assert admission.wait_s(load, 3, 100.0) != first
    late = EngineLoad(COSTS, FRAME_S, (202.0, 250.0, 260.0))
    assert admission.wait_s(late, 3, 200.0) == pytest.approx(first)


@given(st.lists(st.floats(-10, 1000), max_size=8), st.integers(3, 20))
def test_waits_are_within_their_bounds(leaving_s: list[float], streams: int) -> None:
    wait_s = Admission("realtime", 8).wait_s(EngineLoad(COSTS, FRAME_S, tuple(leaving_s)), streams, 0.0)
    assert wait_s is not None
    assert 0.1 <= wait_s <= 60


def test_costs_are_interpolated() -> None:
    assert COSTS.step_s(0) == 0
    assert COSTS.step_s(1) == pytest.approx(0.03)
    assert COSTS.step_s(2) == pytest.approx(0.04)
    assert COSTS.step_s(16) == pytest.approx(0.2)
    assert Costs(((4, 0.04),)).step_s(2) == pytest.approx(0.04)


def test_measured_costs_rise_with_the_streams_and_ignore_outliers() -> None:
    meter = CostMeter()
    meter.stepped(1, 5.0)  # for the first time
    for _ in range(5):
        meter.stepped(1, 0.03)
        meter.stepped(4, 0.02)
        meter.decoded(12, 0.12)
    meter.decoded(1, 0.5)
    costs = meter.costs
    assert costs.steps == ((1, 0.03), (4, 0.03))
    assert costs.decodes == ((1, 0.5), (8, 0.5)), "what was measured once, and 12 as 8"
    assert costs.decode_s(16) == pytest.approx(1.0)
    meter.stepped(4, 0.04)
    assert costs.steps == ((1, 0.03), (4, 0.03)), "a value does not change"


def test_an_outlier_of_many_streams_does_not_refuse_streams_for_ever() -> None:
    """A machine that admits no utterance would never measure again."""
    meter = CostMeter()
    for _ in range(9):
        meter.stepped(2, 0.04)
        meter.stepped(3, 2.0)
    assert meter.costs.step_s(3) == pytest.approx(0.06)
    meter.sliced(3.0)
    for _ in range(25):
        meter.sliced(0.1)
    assert meter.costs.slice_s == 0.1


@given(st.lists(st.tuples(st.integers(1, 16), st.floats(0.001, 1)), min_size=1), st.integers(1, 32))
def test_more_streams_never_cost_less(measured: list[tuple[int, float]], streams: int) -> None:
    meter = CostMeter()
    for each, seconds in measured:
        meter.stepped(each, seconds)
    assert meter.costs.step_s(streams) <= meter.costs.step_s(streams + 1) + 1e-9
