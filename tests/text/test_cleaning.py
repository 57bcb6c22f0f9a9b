"""Cleaning without markdown, and which texts are speakable."""

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.text import clean, is_speakable


def test_letters_are_composed_and_controls_dropped() -> None:
    assert clean("e\u0301te\u0301\x00\x07 du\x1b nord\x9f") == "\u00e9t\u00e9 du nord"


def test_white_space_inside_stays_and_at_the_ends_goes() -> None:
    assert clean("\r\n one\ttwo\nthree \u2029 ") == "one\ttwo\nthree"


@settings(derandomize=True)
@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@settings(derandomize=True)
@given(st.text())
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
