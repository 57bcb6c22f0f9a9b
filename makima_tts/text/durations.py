"""How long a text takes to say, and can take.

In: a cleaned text and its language. Out: seconds, and seconds that no reader needs. Does not know: engines,
frames.

Counted in syllables, the latter generously: what matters is that nobody who speaks is cut off, and that a
voice which does not find its end is. Rates are syllables per second of Pellegrino, Coupé and Marsico, "A
cross-language perspective on speech information rate" (Language 87, 2011); a language that they did not
measure gets the slowest of them.
"""

import unicodedata

_SYLLABLES_PER_S = {
    "English": 6.19,
    "French": 7.18,
    "German": 5.97,
    "Italian": 6.99,
    "Japanese": 7.84,
    "Chinese": 5.18,
    "Spanish": 7.82,
}
_SLOWEST = min(_SYLLABLES_PER_S.values())
# Slow readers speak half as fast as those who were measured.
_MARGIN = 2.0
# A breath before, and the end of a sentence after.
_FIXED_S = 2.0

_LETTER_SYLLABLES = 0.4  # English has the longest spellings per syllable of the alphabets, some 2.9 letters
_CAPITAL_SYLLABLES = 1.0  # letter by letter, if it is an acronym
_DIGIT_SYLLABLES = 3.0  # "seventy-"
_SYMBOL_SYLLABLES = 4.0  # "per cent", "euros", "at sign"
_PAUSE_SYLLABLES = 3.0  # half a second
# An ideograph is a syllable of Chinese, one to three morae of Japanese; kana and Hangul are one each.
_IDEOGRAPH_SYLLABLES = {"Japanese": 2.0}


def longest_speech_s(text: str, language: str) -> float:
    """Seconds. ``language``: an English name; any other, Auto too, counts as the slowest."""
    return _FIXED_S + _MARGIN * usual_speech_s(text, language)


def usual_speech_s(text: str, language: str) -> float:
    """What to expect. ``language`` as above."""
    syllables = sum(_syllables(char, language) for char in text)
    return syllables / _SYLLABLES_PER_S.get(language, _SLOWEST)


def _syllables(char: str, language: str) -> float:
    category = unicodedata.category(char)
    match category[0]:
        case "L" if category == "Lo":
            return _IDEOGRAPH_SYLLABLES.get(language, 1.0)
        case "L":
            return _CAPITAL_SYLLABLES if category == "Lu" else _LETTER_SYLLABLES
        case "N":
            return _DIGIT_SYLLABLES
        case "S":
            return _SYMBOL_SYLLABLES
        case "P":
            return _PAUSE_SYLLABLES
        case _:
            return 0.0
