"""How long a cleaned text usually takes to speak, and a bound that no speaker needs.

Both count syllables. The bound is generous: it must not truncate speech, and must end a voice that does not
find its end. Rates are syllables per second of Pellegrino, Coupé and Marsico, "A cross-language perspective
on speech information rate" (Language 87, 2011); a language that they did not measure gets the slowest rate.
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
# Slow readers speak half as fast as the measured ones.
_MARGIN = 2.0
# A breath before, and the end of a sentence after.
_FIXED_S = 2.0

_LETTER_SYLLABLES = 0.4  # English has the longest spellings per syllable of the alphabets, some 2.9 letters
_CAPITAL_SYLLABLES = 1.0  # an acronym is spelled out
# An ideograph is a syllable of Chinese, one to three morae of Japanese; kana and Hangul are one each.
_IDEOGRAPH_SYLLABLES = {"Japanese": 2.0}
# By Unicode category: digits ("seventy-"), symbols ("per cent"), and a pause of half a second.
_OTHER_SYLLABLES = {"N": 3.0, "S": 4.0, "P": 3.0}


def longest_speech_s(text: str, language: str) -> float:
    """Seconds. ``language``: an English name; any other, Auto too, counts as the slowest."""
    return _FIXED_S + _MARGIN * usual_speech_s(text, language)


def usual_speech_s(text: str, language: str) -> float:
    """Expected seconds. ``language`` as above."""
    syllables = sum(_syllables(char, language) for char in text)
    return syllables / _SYLLABLES_PER_S.get(language, _SLOWEST)


def _syllables(char: str, language: str) -> float:
    category = unicodedata.category(char)
    if category == "Lo":
        return _IDEOGRAPH_SYLLABLES.get(language, 1.0)
    if category[0] == "L":
        return _CAPITAL_SYLLABLES if category == "Lu" else _LETTER_SYLLABLES
    return _OTHER_SYLLABLES.get(category[0], 0.0)
