"""The heard part of an interrupted text."""

import pytest
from hypothesis import given, strategies as st

from makima_tts.client.speech import heard_of
from makima_tts.protocol import Sentence

TEXT = " One two three.  Four five six seven. Eight."
SENTENCES = [
    Sentence(utterance_id="u1", index=0, text="One two three.", start_ms=0, end_ms=1400),
    Sentence(utterance_id="u1", index=1, text="Four five six seven.", start_ms=1400, end_ms=3400),
]


@pytest.mark.parametrize(
    ("played_ms", "spoken"),
    [
        (0, ""),
        (250, ""),
        (300, " One"),
        (1399, " One two"),
        (1400, " One two three."),
        (2310, " One two three.  Four five"),
        (9999, " One two three.  Four five six seven."),
    ],
)
def test_the_heard_text_ends_with_a_whole_word(played_ms: int, spoken: str) -> None:
    assert heard_of(TEXT, SENTENCES, played_ms).spoken == spoken


@given(earlier_ms=st.integers(0, 4000), later_ms=st.integers(0, 4000))
def test_the_halves_are_the_text_and_the_longer_it_is_played_the_more_is_heard(
    earlier_ms: int, later_ms: int
) -> None:
    earlier, later = (heard_of(TEXT, SENTENCES, ms) for ms in sorted((earlier_ms, later_ms)))
    assert earlier.spoken + earlier.remaining == TEXT
    assert later.spoken.startswith(earlier.spoken)


def test_without_known_sentences_nothing_counts_as_heard() -> None:
    assert heard_of(TEXT, [], 500).spoken == ""
