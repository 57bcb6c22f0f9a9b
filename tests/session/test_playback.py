"""How much of a text was played when its utterance is cancelled."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.protocol import Cancel
from makima_tts.text import pieces_of
from makima_tts.text.durations import played_position
from makima_tts.text.segmenter import spoken_text
from makima_tts.text.words import WordTime
from tests.session.talk import Talk, messages

TEXT = "The lamps are lit now. We **go home** to [sleep](https://x.org). And that is all."


def played(played_ms: float | None, *ends_ms: float, sent_ms: float | None = None, text: str = TEXT) -> str:
    """The played text; ``ends_ms``: where its first pieces end in the audio."""
    position = played_position(
        spoken_text(text, "markdown"),
        pieces_of(text),
        ends_ms,
        played_ms=played_ms,
        sent_ms=ends_ms[-1] if sent_ms is None else sent_ms,
        speed=1.0,
        language="English",
    )
    return text[:position]


def test_a_piece_is_played_once_its_end_is_played() -> None:
    assert played(2000, 2000, 4000) == "The lamps are lit now."
    assert (
        played(4000, 2000, 4000, 5000) == "The lamps are lit now. We **go home** to [sleep](https://x.org)."
    )
    assert played(5000, 2000, 4000, 5000) == TEXT


def test_a_position_within_a_piece_is_between_words() -> None:
    assert played(0, 2000, 4000) == ""
    assert played(1000, 2000, 4000) == "The lamps are"
    assert played(2800, 2000, 4000) == "The lamps are lit now. We **go home**"


def test_without_played_ms_all_that_was_sent_is_played_and_never_more() -> None:
    assert played(None, 2000) == "The lamps are lit now."
    assert played(90_000, 2000) == "The lamps are lit now."


def test_an_unfinished_piece_lasts_as_long_as_usual_speech() -> None:
    assert played(None, 2000, sent_ms=2400) == "The lamps are lit now. We **go"
    assert played(None, sent_ms=0) == ""


def test_text_that_is_not_spoken_takes_no_time() -> None:
    text = "See [this](https://a.org/so) so:\n```\nso so so\n```\nThen go."
    assert played(900, 1000, 2000, text=text) == "See [this](https://a.org/so)"
    assert played(1000, 1000, 2000, text=text) == text.removesuffix("\nThen go.")
    assert played(1500, 1000, 2000, text=text).endswith("```\nThen")


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    text = "今天天气很好我们去公园玩吧。"
    assert played(1000, 2000, text=text) in [text[:position] for position in range(5, 10)]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4000), min_size=2, max_size=2).map(sorted), st.integers(1, 3))
def test_more_played_audio_never_means_less_played_text(played_ms: list[int], ended: int) -> None:
    ends_ms = [1000 * (index + 1) for index in range(ended)]
    earlier, later = (played(ms, *ends_ms) for ms in played_ms)
    assert later.startswith(earlier)


def cancelled(talk: Talk, played_ms: int | None = None) -> Any:
    return next(one for one in messages(talk.send(Cancel(played_ms=played_ms))) if one.type == "error")


def test_clients_with_events_receive_the_played_text_and_the_rest() -> None:
    talk = Talk().started(events=True)
    talk.speak(TEXT)
    talk.audio(samples=48_000)
    message = cancelled(talk, played_ms=1000)
    assert (message.text_spoken, message.text_remaining) == ("The lamps are", TEXT[13:])


def test_nothing_of_a_queued_utterance_was_played() -> None:
    talk = Talk().started(events=True)
    talk.speak("One.", utterance_id="a")
    talk.speak("Two.", utterance_id="b")
    message = messages(talk.send(Cancel(utterance_id="b")))[0]
    assert (message.text_spoken, message.text_remaining) == ("", "Two.")


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_more_text_is_played_at_higher_speed(speed: float) -> None:
    talk = Talk().started(events=True, speed=speed)
    talk.speak(TEXT)
    talk.audio(samples=24_000, ends_piece=False)
    assert len(cancelled(talk).text_spoken.split()) == {0.5: 1, 2.0: 5}[speed]


def test_partial_text_counts_as_far_as_it_was_spoken() -> None:
    talk = Talk().started(events=True)
    text = "We **go home** to sleep, and tomo"
    talk.speak(text, utterance_id="t", final=False)
    talk.audio("t", samples=24_000, ends_piece=False)
    message = cancelled(talk)
    assert (message.text_spoken, message.text_remaining) == ("We **go home** to", text[17:])


@pytest.mark.parametrize(
    ("played_ms", "spoken"),
    [
        (0, ""),
        (399, ""),
        (400, "The"),
        (1700, "The lamps are lit"),
        (2100, "The lamps are lit now."),
        (2500, "The lamps are lit now. We"),
        (2600, "The lamps are lit now. We **go"),
        (2800, "The lamps are lit now. We **go home**"),
        # later than any word that was told
        (2900, "The lamps are lit now. We **go home**"),
        (3900, "The lamps are lit now. We **go home** to"),
    ],
)
def test_words_whose_times_are_known_say_what_was_played(played_ms: int, spoken: str) -> None:
    talk = Talk().started(events=True, timings="word")
    talk.speak(TEXT)
    ends_ms = [400, 800, 1200, 1600, 2000]
    first = tuple(WordTime(0, word, end - 400, end) for word, end in enumerate(ends_ms))
    second = tuple(WordTime(1, word, end - 100, end) for word, end in enumerate([2500, 2600, 2800]))
    talk.audio(samples=48_000, words=first)
    talk.audio(samples=48_000, piece=1, ends_piece=False, words=second)
    message = cancelled(talk, played_ms)
    assert (message.text_spoken, message.text_remaining) == (spoken, TEXT[len(spoken) :])


def test_clients_of_the_base_set_receive_no_played_text() -> None:
    talk = Talk().started()
    talk.speak(TEXT)
    message = cancelled(talk)
    assert (message.text_spoken, message.text_remaining) == (None, None)
