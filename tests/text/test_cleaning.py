# ruff: noqa: RUF001 - texts in many scripts
"""Cleaning without markdown, invisible characters, and which texts are speakable."""

import pytest
from hypothesis import example, given, settings, strategies as st

from makima_tts.text import TextCleaning, clean, is_speakable, pieces_of
from tests.text.cleaned import split, spoken_in_parts


def test_letters_are_composed_and_controls_dropped() -> None:
    assert clean("e\u0301te\u0301\x00\x07 du\x1b nord\x9f") == "\u00e9t\u00e9 du nord"


def test_white_space_inside_stays_and_at_the_ends_goes() -> None:
    assert clean("\r\n one\ttwo\nthree \u2029 ") == "one\ttwo\nthree"


@settings(derandomize=True)
@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


# Escape sequences hold letters, and fillers count as letters, but neither is seen.
VISIBLE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u115f\u1160\u3164\uffa0")
)


@settings(derandomize=True)
@given(VISIBLE)
def test_cleaning_does_not_change_whether_a_text_is_speakable(text: str) -> None:
    assert is_speakable(clean(text)) == is_speakable(text)


@pytest.mark.parametrize("text", ["a", "7", "½", "我", "ア", "ب", "न", "…a…"])
def test_letters_and_numbers_are_speech(text: str) -> None:
    assert is_speakable(text)


@pytest.mark.parametrize(
    "text", ["", " \n", "...", "?!", "\U0001f44b\U0001f3fd", "\u200b\u202e", "\u0301", "|<>|"]
)
def test_text_without_letters_and_numbers_is_not_speech(text: str) -> None:
    assert not is_speakable(text)


INVISIBLE = [
    *(
        "\u200b",
        "\u2060",
        "\ufeff",
        "\u00ad",
        "\u200e",
        "\u200f",
        "\u202a",
        "\u202e",
        "\u2066",
        "\u2069",
        "\u061c",
    ),
    *(
        "\u180e",
        "\u3164",
        "\ufe00",
        "\U000e0100",
        "\U000e0041",
        "\ufff9",
        "\ufffc",
        "\x00",
        "\x07",
        "\x7f",
        "\x84\x08",
    ),
    *(
        "\x1b[0m",
        "\x1b[1;31m",
        "\x9b2K",
        "\x1b]0;a title\x07",
        "\x1b]8;;https://a.org\x1b\\",
        "\x1bPq\x1b\\",
        "\x1b(B",
    ),
    *("\x1b", "\x1b7", "\u200d", "\u200c", "\ufe0f"),
]
FRAGMENTS = [
    *INVISIBLE,
    "a",
    "é",
    "\u0301",
    "क्",
    "می",
    "\U0001f3fd",
    "❤",
    "1",
    " ",
    "\r",
    "\n",
    "[",
    "]",
    "\\",
    "m",
]


@pytest.mark.parametrize("cleaning", ["markdown", "plain"])
@pytest.mark.parametrize("invisible", INVISIBLE, ids=ascii)
def test_what_is_invisible_reaches_no_engine(invisible: str, cleaning: TextCleaning) -> None:
    pieces = pieces_of(f"Wo{invisible}rds{invisible} here.", cleaning)
    assert [piece.text.replace("\n", "") for piece in pieces] == ["Words here."]
    assert clean(f"Wo{invisible}rds").replace("\n", "") == "Words"


@pytest.mark.parametrize("cleaning", ["markdown", "plain"])
@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "ක්\u200dය", "ക\u200c"])
def test_joiners_that_scripts_need_stay(text: str, cleaning: TextCleaning) -> None:
    assert spoken_in_parts(text, cleaning=cleaning)[0] == text


@pytest.mark.parametrize(
    "emoji", ["\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f468\u200d\U0001f469", "\U0001f3f4\U000e0067\U000e007f"]
)
def test_what_belongs_to_an_emoji_stays_with_it(emoji: str) -> None:
    assert spoken_in_parts(emoji, cleaning="plain")[0] == emoji
    assert spoken_in_parts(f"a {emoji}")[0].strip("1 ") == "a"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    text=st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
@example(text="\x1b]" + "a" * 3000, cuts=[2, 1999, 2000, 2001])
@example(text="a\u00ad\n" + " " * 100 + "b", cuts=[])
def test_any_split_shows_the_same_characters_at_the_same_positions(text: str, cuts: list[int]) -> None:
    whole = spoken_in_parts(text, cleaning="plain")
    assert spoken_in_parts(*split(text, cuts), cleaning="plain") == whole
    assert spoken_in_parts(*text, cleaning="plain") == whole
    shown, starts = whole
    assert all(text[start] == char or char == "\n" for char, start in zip(shown, starts, strict=True))
