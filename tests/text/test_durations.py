"""The longest duration of a text: longer than any speaker needs, and not much longer than that."""

import pytest

from makima_tts.text import longest_speech_s

# Beginnings of the Universal Declaration of Human Rights, and how long reading them aloud takes at the rate
# that was measured for the language, counted by hand in syllables.
READ_ALOUD = {
    "English": ("All human beings are born free and equal in dignity and rights.", 18 / 6.19),
    "German": ("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", 18 / 5.97),
    "French": ("Tous les êtres humains naissent libres et égaux en dignité et en droits.", 20 / 7.18),
    "Spanish": ("Todos los seres humanos nacen libres e iguales en dignidad y derechos.", 24 / 7.82),
    "Chinese": ("人人生而自由,在尊严和权利上一律平等。", 16 / 5.18),
    "Japanese": ("すべての人間は、生まれながらにして自由である。", 24 / 7.84),
}


@pytest.mark.parametrize("language", READ_ALOUD)
def test_speech_at_half_the_usual_rate_is_not_truncated(language: str) -> None:
    text, usual_s = READ_ALOUD[language]
    assert longest_speech_s(text, language) > 2 * usual_s


@pytest.mark.parametrize("language", READ_ALOUD)
def test_a_voice_that_does_not_end_is_stopped_soon(language: str) -> None:
    text, usual_s = READ_ALOUD[language]
    assert longest_speech_s(text, language) < 5 * usual_s + 3


@pytest.mark.parametrize("text", ["OK.", "7", "!", ""])
def test_the_shortest_text_has_time_for_a_breath(text: str) -> None:
    assert 2 <= longest_speech_s(text, "English") < 5


def test_more_text_takes_longer_and_digits_and_symbols_longer_still() -> None:
    plain = longest_speech_s("twenty", "English")
    assert longest_speech_s("twenty twenty", "English") > plain
    assert longest_speech_s("202026", "English") > plain
    assert longest_speech_s("NATO€%", "English") > plain


def test_a_language_without_a_measured_rate_counts_as_the_slowest() -> None:
    slowest = longest_speech_s("privet", "Chinese")
    assert longest_speech_s("privet", "Russian") == longest_speech_s("privet", "Auto") == slowest
