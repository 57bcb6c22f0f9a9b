"""The listener's clock distinguishes a stutter from a long chunk."""

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.speech import ListenerClock


def test_what_is_delivered_ahead_is_never_late() -> None:
    clock = ListenerClock()
    assert [clock.deliver(1.0, now_s) for now_s in (10.0, 10.1, 11.9)] == [0, 0, 0]
    assert clock.ahead_s(12.0) == pytest.approx(1.0)
    assert clock.underruns == 0


def test_a_listener_that_ran_dry_waits_and_then_goes_on() -> None:
    clock = ListenerClock()
    clock.deliver(1.0, 10.0)
    assert clock.deliver(1.0, 11.5) == pytest.approx(0.5)
    assert clock.underruns == 1
    assert clock.deliver(1.0, 12.4) == 0
    assert clock.ahead_s(12.4) == pytest.approx(1.1)


def test_no_audio_is_ahead_before_the_first_delivery_or_after_running_dry() -> None:
    clock = ListenerClock()
    assert clock.ahead_s(10.0) == 0
    clock.deliver(1.0, 10.0)
    assert clock.ahead_s(99.0) == 0


def test_after_a_reset_the_next_delivery_is_a_first_one() -> None:
    clock = ListenerClock()
    clock.deliver(1.0, 10.0)
    clock.reset()
    assert clock.ahead_s(10.0) == 0
    assert clock.deliver(1.0, 20.0) == 0
    assert clock.underruns == 0


@settings(derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1))
def test_the_last_sample_is_played_after_all_audio_and_all_lateness(
    deliveries: list[tuple[float, float]],
) -> None:
    clock, now_s, waited_s, delivered_s = ListenerClock(), 0.0, 0.0, 0.0
    for pause_s, duration_s in deliveries:
        now_s += pause_s
        waited_s += clock.deliver(duration_s, now_s)
        delivered_s += duration_s
    first_s = deliveries[0][0]
    assert clock.plays_until_s == pytest.approx(first_s + waited_s + delivered_s)
