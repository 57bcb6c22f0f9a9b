"""What of a text was heard, when its speech was cut off."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makima_tts.protocol import Cancel
from makima_tts.session.playback import SentAudio, text_position
from makima_tts.text import pieces_of
from makima_tts.text.segmenter import spoken_text
from tests.session.talk import Talk, said

TEXT = "The lamps are lit now. We **go home** to [sleep](https://x.org). And that is all."


def heard(played_ms: float | None, *ends_ms: float, sent_ms: float | None = None, text: str = TEXT) -> str:
    sent = SentAudio(source_ms=ends_ms[-1] if sent_ms is None else sent_ms, piece_ends_ms=list(ends_ms))
    spoken, pieces = spoken_text(text, "markdown"), pieces_of(text)
    position = text_position(spoken, pieces, sent, played_ms=played_ms, speed=1.0, language="English")
    return text[:position]


def test_a_piece_whose_end_was_played_was_heard() -> None:
    assert heard(2000, 2000, 4000) == "The lamps are lit now."
    assert heard(4000, 2000, 4000, 5000) == "The lamps are lit now. We **go home** to [sleep](https://x.org)."
    assert heard(5000, 2000, 4000, 5000) == TEXT


def test_within_a_piece_it_is_cut_between_words() -> None:
    assert heard(0, 2000, 4000) == ""
    assert heard(1000, 2000, 4000) == "The lamps are"
    assert heard(2800, 2000, 4000) == "The lamps are lit now. We **go home**"


def test_a_client_that_does_not_say_has_heard_all_that_was_sent_and_none_has_heard_more() -> None:
    assert heard(None, 2000) == "The lamps are lit now."
    assert heard(90_000, 2000) == "The lamps are lit now."


def test_the_piece_that_is_still_spoken_lasts_as_long_as_is_usual() -> None:
    assert heard(None, 2000, sent_ms=2400) == "The lamps are lit now. We **go"
    assert heard(None, sent_ms=0) == ""


def test_what_is_not_said_takes_no_time() -> None:
    text = "See [this](https://a.org/so) so:\n```\nso so so\n```\nThen go."
    assert heard(900, 1000, 2000, text=text) == "See [this](https://a.org/so)"
    assert heard(1000, 1000, 2000, text=text) == text.removesuffix("\nThen go.")
    assert heard(1500, 1000, 2000, text=text).endswith("```\nThen")


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    text = "今天天气很好我们去公园玩吧。"
    assert heard(1000, 2000, text=text) in [text[:place] for place in range(5, 10)]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 4000), min_size=2, max_size=2).map(sorted), st.integers(1, 3))
def test_who_played_more_has_heard_no_less(played_ms: list[int], ended: int) -> None:
    ends_ms = [1000 * (index + 1) for index in range(ended)]
    earlier, later = (heard(played, *ends_ms) for played in played_ms)
    assert later.startswith(earlier)


def cancelled(talk: Talk, played_ms: int | None = None) -> Any:
    return next(one for one in said(talk.send(Cancel(played_ms=played_ms))) if one.type == "error")


def test_newer_clients_are_told_what_was_heard_and_what_was_not() -> None:
    talk = Talk().started(events=True)
    talk.speak(TEXT)
    talk.audio(samples=48_000)
    message = cancelled(talk, played_ms=1000)
    assert (message.text_spoken, message.text_remaining) == ("The lamps are", TEXT[13:])


def test_nothing_was_heard_of_what_was_queued() -> None:
    talk = Talk().started(events=True)
    talk.speak("One.", utterance_id="a")
    talk.speak("Two.", utterance_id="b")
    message = said(talk.send(Cancel(utterance_id="b")))[0]
    assert (message.text_spoken, message.text_remaining) == ("", "Two.")


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_faster_voice_has_said_more(speed: float) -> None:
    talk = Talk().started(events=True, speed=speed)
    talk.speak(TEXT)
    talk.audio(samples=24_000, ends_piece=False)
    assert len(cancelled(talk).text_spoken.split()) == {0.5: 1, 2.0: 5}[speed]


def test_what_is_still_being_written_was_heard_as_far_as_it_was_spoken() -> None:
    talk = Talk().started(events=True)
    text = "We **go home** to sleep, and tomo"
    talk.speak(text, utterance_id="t", final=False)
    talk.audio("t", samples=24_000, ends_piece=False)
    message = cancelled(talk)
    assert (message.text_spoken, message.text_remaining) == ("We **go home** to", text[17:])


def test_clients_of_the_closed_set_are_not_told() -> None:
    talk = Talk().started()
    talk.speak(TEXT)
    message = cancelled(talk)
    assert (message.text_spoken, message.text_remaining) == (None, None)
