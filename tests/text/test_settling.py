# ruff: noqa: RUF001 - texts in many scripts
"""A pause of the writer: which sentences are spoken then, and what stays undecided."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st

from makima_tts.text import Piece, Segmenter, TextCleaning, is_speakable

FRAGMENTS = [
    *(
        "A first sentence here. ",
        "Then ",
        "Yes. ",
        "so, ",
        "Dr. ",
        "e.g. ",
        "3.14",
        "12.",
        "v1.2.3 ",
        "!",
        "?! ",
    ),
    *(
        "**Bold.** ",
        "`code.` ",
        "[a link.](https://x.org) ",
        "see https://x.org/a.b ",
        "http",
        "\n",
        "\n\n",
        "- ",
    ),
    *("“Stop!” ", "今天天气很好。", "「はい。」", "… ", "a" * 120, "word " * 30, "![", "*", "<b>", "&amp"),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join)
POSITIONS = st.sets(st.integers(0, 400), max_size=12)

law = settings(derandomize=True, max_examples=60, deadline=None)


def settled(
    text: str, pauses: set[int], splits: set[int], cleaning: TextCleaning = "markdown"
) -> list[Piece]:
    """The pieces of a text that arrives in these parts, with a pause of the writer at some positions."""
    segmenter, pieces = Segmenter(cleaning), list[Piece]()
    for start, end in pairwise(sorted({0, len(text), *(at for at in pauses | splits if at < len(text))})):
        pieces += segmenter.feed(text[start:end])
        if end in pauses:
            pieces += segmenter.settle()
    return pieces + segmenter.flush()


def after_pause(text: str, cleaning: TextCleaning = "markdown") -> list[str]:
    segmenter = Segmenter(cleaning)
    return [piece.text for piece in segmenter.feed(text) + segmenter.settle()]


@law
@given(text=TEXTS, pauses=POSITIONS, splits=POSITIONS, cleaning=st.sampled_from(["markdown", "plain"]))
def test_the_same_text_and_the_same_pauses_give_the_same_pieces(
    text: str, pauses: set[int], splits: set[int], cleaning: TextCleaning
) -> None:
    assert settled(text, pauses, splits, cleaning) == settled(text, pauses, set(range(400)), cleaning)


@law
@given(text=TEXTS, pauses=POSITIONS)
@example(text="It is 3.14 or v1.2.3, see https://x.org/a.b. Yes", pauses=set(range(60)))
def test_a_pause_loses_nothing_and_cuts_only_after_a_sentence(text: str, pauses: set[int]) -> None:
    pieces = settled(text, pauses, set(), "plain")
    ends = [0, *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == ends[:-1]
    assert not is_speakable(text[ends[-1] :])
    regular = {piece.end for piece in settled(text, set(), set(), "plain")}
    for end in set(ends[1:]) - regular:
        assert not text[end - 1].isalnum() or len(text) > 100  # a forced cut may follow another one
        assert not (text[end - 2 : end - 1].isdigit() and text[end : end + 1].isdigit())


@law
@given(text=TEXTS, pauses=POSITIONS)
def test_partial_text_stays_the_beginning_of_the_piece(text: str, pauses: set[int]) -> None:
    segmenter, partial = Segmenter(), ""
    for position, char in enumerate(text, 1):
        for pause in (False, True)[: 1 + (position in pauses)]:
            pieces = segmenter.settle() if pause else segmenter.feed(char)
            assert not pieces or pieces[0].text.startswith(partial)
            assert segmenter.partial_text.startswith("" if pieces else partial)
            partial = segmenter.partial_text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("A first sentence here. Then ", ["A first sentence here."]),
        ("Let me look that up.", ["Let me look that up."]),
        ("Yes.", ["Yes."]),
        ("Great!", ["Great!"]),
        ("Well, here we go. Two, t", ["Well, here we go."]),
        ("**Done now.**", ["Done now."]),
        ("That is `all.`", ["That is all."]),
        ("It is done. [See the", ["It is done."]),
        ("He said “Stop!”", ["He said “Stop!”"]),
        ("It was in 1984. ", ["It was in 1984."]),
        ("今天天气很好。", ["今天天气很好。"]),
        ("OK. All is well. A", ["OK. All is well."]),
    ],
)
def test_a_sentence_that_has_ended_is_spoken_while_the_writer_pauses(text: str, spoken: list[str]) -> None:
    assert after_pause(text) == spoken
    segmenter = Segmenter()
    assert len(segmenter.feed(text)) < len(spoken)


@pytest.mark.parametrize(
    "text",
    [
        *("It is 3.", "This is version 1.2.", "I met Dr.", "Many, e.g.", "When the evening comes at last, "),
        *("A line that goes on\n", "See https://www.exam", "example.h", "Look at <b", "A [link.", "...", ""),
        *("Wait a moment", "今天天气很好，"),
    ],
)
def test_a_pause_decides_nothing_else(text: str) -> None:
    assert after_pause(text) == []


def test_a_word_that_waits_for_a_mark_is_not_divided_by_a_pause() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("It is in example.h") + segmenter.settle() == []
    assert [piece.text for piece in segmenter.feed("tml there.") + segmenter.flush()] == [
        "It is in example.html there."
    ]


@pytest.mark.parametrize("cleaning", ["markdown", "plain"])
@pytest.mark.parametrize(
    "text", ["A heading\n\n", "A sentence ends.\n", "It ends (here.) \n", "Is it so?\r\n"]
)
def test_a_blank_line_ends_a_sentence_at_once_and_a_line_break_what_a_mark_has_ended(
    text: str, cleaning: TextCleaning
) -> None:
    assert [piece.text for piece in Segmenter(cleaning).feed(text)] == [text.strip()]
    assert Segmenter(cleaning).feed("A line that goes on\n") == []
