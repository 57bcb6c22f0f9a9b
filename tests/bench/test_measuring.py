"""The building blocks of the measurements."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.listeners import ListenerResult, poisson, row_of, summary
from bench.load import ConcurrencyLevel, StreamSearch, level_rows, mib_per_stream
from bench.ours import Ledger
from bench.report import circumstances, percentiles, table
from bench.service import read_stamp, write_stamp
from makima_tts.audio import PcmEncoder


@given(st.integers(0, 2**63 - 1))
def test_a_stamp_comes_through_the_services_own_encoder(time_ns: int) -> None:
    pcm = np.zeros(1920, np.float32)
    write_stamp(pcm, time_ns)
    assert read_stamp(PcmEncoder(24_000, 24_000, "pcm32f").encode(pcm)) == time_ns


def test_the_same_seed_brings_the_same_listeners() -> None:
    assert list(poisson(5, 10, seed=1)) == list(poisson(5, 10, seed=1))
    assert list(poisson(5, 10, seed=1)) != list(poisson(5, 10, seed=2))


def test_listeners_arrive_at_the_rate_and_within_the_duration() -> None:
    expected = list(poisson(50, 100, seed=0))
    assert len(expected) == pytest.approx(5000, rel=0.1)
    assert all(0 < at_s < 100 for at_s, _ in expected)
    gaps_s = np.diff([at_s for at_s, _ in expected])
    assert np.std(gaps_s) == pytest.approx(np.mean(gaps_s), rel=0.1)


def test_a_percentile_of_nothing_is_not_a_number_and_looks_it() -> None:
    assert percentiles([], 50, 99) == {"p50": None, "p99": None}
    assert table([{"a": None, "b": 1.234}]).splitlines()[-1] == "| - | 1.234 |"


def test_a_row_counts_errors_and_underruns() -> None:
    results = [
        ListenerResult("short", ttfa_s=0.1, lateness_s=[0.0, 0.5, 0.0], audio_s=2.0, rtf=0.5),
        ListenerResult("short", error="RATE_LIMITED"),
    ]
    found = row_of(results)
    assert (found["listeners"], found["errors"], found["underruns"]) == (2, 1, 1)
    assert (found["TTFA p50 ms"], found["lateness p95 ms"], found["audio s"]) == (100.0, 500.0, 2.0)
    whole = summary(results, took_s=4.0)
    assert whole["audio seconds per second"] == 0.5
    assert whole["errors"] == {"RATE_LIMITED": 1}


def test_a_result_says_when_where_and_how_busy() -> None:
    assert set(circumstances()) == {"date", "machine", "python", "load average"}


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_largest_number_without_a_gap_is_found_and_none_is_tried_twice(limit: int, most: int) -> None:
    tried: list[int] = []
    search = StreamSearch(most)
    while (streams := search.next()) is not None:
        tried.append(streams)
        search.record(streams, clean=streams <= limit)
    assert search.clean == min(limit, most)
    assert len(tried) == len(set(tried))
    assert all(1 <= streams <= most for streams in tried)


def test_a_level_shows_underruns_and_the_memory_of_a_stream() -> None:
    results = [
        ListenerResult("short", ttfa_s=0.1, lateness_s=[0.0, 0.25], audio_s=30.0),
        ListenerResult("short", ttfa_s=0.3, audio_s=30.0),
    ]
    levels = [
        ConcurrencyLevel(1, tries=1, clean=1, resident_mib=100.0),
        ConcurrencyLevel(3, results, 2, 1, resident_mib=150.0),
    ]
    silent, some = level_rows(levels)
    assert (silent["underruns"], silent["underruns a minute"], silent["TTFA p50 ms"]) == (0, None, None)
    assert (some["underruns"], some["underruns a minute"], some["TTFA p50 ms"]) == (1, 1.0, 200.0)
    assert (some["tries without a gap"], some["lateness p95 ms"]) == ("1 of 2", 250.0)
    assert mib_per_stream(levels) == 25.0
    assert mib_per_stream(levels[:1]) is None


def test_time_is_charged_to_the_innermost_part() -> None:
    class Clock:
        def __init__(self) -> None:
            self.ms = 0.0

        def now_ms(self) -> float:
            self.ms += 1
            return self.ms

    ledger = Ledger(Clock())  # type: ignore[arg-type]
    with ledger.running("outer"):
        with ledger.running("inner"):
            pass
    ledger.charge()
    assert ledger.spent_ms == {"the rest": 2.0, "outer": 2.0, "inner": 1.0}
