"""When words are told, and which times they get."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.text import pieces_of
from makima_tts.text.words import WordTime
from makima_tts.timings import NO_HURRY_MS, WordTimer

TEXT = "The lamps are lit now, all of them. We go home to sleep. 今天天气很好。 And that is all."
PIECES = [piece.text for piece in pieces_of(TEXT)]
COUNTS = [len(piece.words) for piece in pieces_of(TEXT)]
DURATIONS_MS = st.lists(st.integers(1, 900), min_size=1, max_size=6)
SPLITS = st.lists(DURATIONS_MS, min_size=len(PIECES), max_size=len(PIECES))


def timer_of(*pieces: str, speed: float = 1.0, lead_ms: float = NO_HURRY_MS) -> WordTimer:
    timer = WordTimer("English", speed, lead_ms)
    for piece in pieces:
        timer.add_text(piece, ends_piece=True)
    return timer


def told(timer: WordTimer, chunks_ms: list[list[int]], position_ms: float = 0.0) -> list[WordTime]:
    """``chunks_ms``: durations of the chunks of each piece."""
    words: list[WordTime] = []
    for index, durations in enumerate(chunks_ms):
        for number, duration_ms in enumerate(durations, 1):
            timer.add_audio(index, duration_ms, ends_piece=number == len(durations))
            words += timer.take(position_ms)
    return words


def check_order(words: list[WordTime]) -> None:
    assert [word[:2] for word in words] == [
        (piece, n) for piece, count in enumerate(COUNTS) for n in range(count)
    ]
    assert all(word.start_ms <= word.end_ms for word in words)
    assert all(one.end_ms <= other.start_ms for one, other in pairwise(words))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SPLITS)
def test_any_chunks_of_the_same_audio_give_the_same_words_once_in_order_and_in_their_piece(
    chunks_ms: list[list[int]],
) -> None:
    words = told(timer_of(*PIECES), chunks_ms)
    assert words == told(timer_of(*PIECES), [[sum(durations)] for durations in chunks_ms])
    check_order(words)
    ends_ms = [sum(map(sum, chunks_ms[: index + 1])) for index in range(len(chunks_ms))]
    for word in words:
        begin_ms = ends_ms[word.piece_index - 1] if word.piece_index else 0
        assert begin_ms - 1e-6 <= word.start_ms <= word.end_ms <= ends_ms[word.piece_index] + 1e-6


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SPLITS, st.floats(-500, 9000), st.lists(st.integers(0, 100), max_size=20))
def test_with_any_listener_and_any_alignment_each_word_is_told_once_in_order(
    chunks_ms: list[list[int]], position_ms: float, aligned_ms: list[int]
) -> None:
    timer = timer_of(*PIECES, lead_ms=250.0)
    times_ms = [(10.0 * sum(aligned_ms[:n]), 10.0 * sum(aligned_ms[: n + 1])) for n in range(len(aligned_ms))]
    for index in range(len(PIECES)):
        timer.expect_alignment(index)
    words = told(timer, chunks_ms, position_ms)
    for index in range(len(PIECES)):
        timer.align(index, times_ms, whole=True)
        words += timer.take(position_ms)
    check_order(words)


def test_speed_scales_expected_and_aligned_times_alike() -> None:
    slow, fast = timer_of("Hello there."), timer_of("Hello there.", speed=2.0)
    (hello, there), (quick, again) = told(slow, [[1000]]), told(fast, [[500]])
    assert (quick.end_ms, again.start_ms) == pytest.approx((hello.end_ms / 2, there.start_ms / 2))


def test_a_word_is_told_when_the_listener_is_about_to_reach_it_and_no_earlier() -> None:
    timer = timer_of("Hello there, and all of you.", lead_ms=250.0)
    timer.add_audio(0, 3000.0, ends_piece=False)
    timer.expect_alignment(0)
    (first,) = timer.take(0.0)
    assert first.estimated
    wait_ms = timer.wait_ms(0.0)
    assert 0 < wait_ms < 1000
    assert timer.take(wait_ms - 1) == ()
    (second,) = timer.take(wait_ms)
    assert second.start_ms == pytest.approx(wait_ms + 250)


def test_a_short_beginning_of_the_audio_tells_only_the_words_that_are_heard_in_it() -> None:
    timer = timer_of("Hello there, and all of you.", lead_ms=250.0)
    timer.add_audio(0, 80.0, ends_piece=False)
    assert len(timer.take(0.0)) == 1
    assert timer.take(80.0) == ()


def test_aligned_words_are_told_at_once_and_estimates_go_on_from_them() -> None:
    timer = timer_of("Hello there, and all of you.", lead_ms=250.0)
    timer.add_audio(0, 3000.0, ends_piece=False)
    timer.expect_alignment(0)
    timer.align(0, [(100.0, 700.0), (900.0, 1500.0)], whole=False)
    assert timer.take(0.0) == (WordTime(0, 0, 100.0, 700.0), WordTime(0, 1, 900.0, 1500.0))
    assert timer.take(1100.0) == ()
    (third, *_) = timer.take(2000.0)
    assert third.estimated
    assert third.start_ms > 1500


def test_without_an_alignment_words_fill_their_piece() -> None:
    timer = timer_of("Hello there.")
    timer.expect_alignment(0)
    assert told(timer, [[1000]]) == []
    timer.align(0, (), whole=True)
    hello, there = timer.take(0.0)
    assert hello.estimated
    assert hello.start_ms == 0
    assert 600 < there.end_ms <= 1000  # the full stop takes time, too


def test_words_of_a_piece_without_audio_have_the_time_of_its_place() -> None:
    timer = timer_of("Hello.", "there,", "friend.")
    timer.add_audio(0, 500.0, ends_piece=True)
    timer.add_audio(2, 500.0, ends_piece=True)
    words = timer.take(0.0)
    assert [(word.start_ms, word.end_ms) for word in words][1] == (500.0, 500.0)
    assert len(words) == 3


def test_words_that_are_not_begun_are_not_told() -> None:
    timer = timer_of("Hello there.", "And more.")
    timer.add_audio(0, 500.0, ends_piece=True)
    assert len(timer.take(1e9)) == 2
    assert timer.wait_ms(1e9) == float("inf")
