"""Text that the preview engine's model can read: English words for what it would drop, misread or fail at.

In: a piece of cleaned text. Out: the same in English letters, digits and marks, and the scripts of the words
that are left out. Does not know: the model, audio.

These are limits of one small model; larger ones read numbers and symbols themselves.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

# Square brackets are its markup: `[word](/phonemes/)` would let a text dictate phonemes. Both kinds of
# brackets are read alike, so round ones lose nothing.
_SIGNS = str.maketrans({"[": "(", "]": ")", "\N{MINUS SIGN}": " minus "})
_ENGLISH_SCRIPTS = frozenset({"LATIN", "MODIFIER"})
_SCRIPT_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
_ACCENTS = frozenset(map(chr, range(0x300, 0x370)))
_WORD = re.compile(r"[^\W\d_]+")

# The model knows these before an amount, and scales up to decillions. Long numbers are read by the digit,
# in groups, so that a reader can follow.
_CURRENCIES = "$£€¥₹₩"
_LONGEST_NUMBER = 15
_GROUP = 3
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_POWERS = {"2": " squared", "3": " cubed"}


@dataclass(frozen=True, slots=True)
class EnglishText:
    """``scripts``: of the words that were left out."""

    text: str = field(repr=False)
    scripts: frozenset[str] = frozenset()


def in_english(piece: str) -> EnglishText:
    """What can be read of a piece; nothing of a word in foreign letters."""
    text, scripts = piece.translate(_SIGNS), set[str]()
    for pattern, say in _READINGS:
        text = pattern.sub(say, text)
    text = _WORD.sub(lambda word: _english_word(word.group(), scripts), text)
    return EnglishText("".join(filter(_has_sound, text)), frozenset(scripts))


def _has_sound(char: str) -> bool:
    """Neither an invisible character nor a combining mark of a foreign letter."""
    category = unicodedata.category(char)
    return category[0] not in "MC" or category == "Cc" or char in _ACCENTS


def _english_word(word: str, scripts: set[str]) -> str:
    """Without its foreign letters; a Greek letter that stands alone has an English name."""
    foreign = {char: script for char in word if (script := _foreign_script(char)) is not None}
    if len(word) == 1 and "Greek" in foreign.values():
        return f" {unicodedata.name(word).split(' WITH ')[0].split()[-1].lower()} "
    scripts.update(foreign.values())
    return "".join(" " if char in foreign else char for char in word)


def _foreign_script(char: str) -> str | None:
    """Unicode's name of a letter's script, unless it is one that English is written in."""
    if char.isascii() or char == "\N{MICRO SIGN}":
        return None
    # Compatibility forms (full width, mathematical, ordinal indicators) are read as the letters they mean.
    plain = unicodedata.normalize("NFKC", char).strip()[:1] or char
    script = unicodedata.name(plain, "UNNAMED").split()[0]
    return (
        None
        if plain.isascii() or script in _ENGLISH_SCRIPTS
        else _SCRIPT_NAMES.get(script, script.capitalize())
    )


def _say_power(found: re.Match[str]) -> str:
    digits = "".join(str(_SUPERSCRIPTS.index(char)) for char in found.group())
    return _POWERS.get(digits, f" to the power of {digits}") + " "


def _say_digit(found: re.Match[str]) -> str:
    """A digit of any script, circled too; a Roman numeral, a fraction."""
    char = found.group()
    value = unicodedata.numeric(char, None)
    if char.isascii() or value is None:
        return char
    if char.isdecimal():
        return str(int(value))
    if value != int(value):
        return f" {unicodedata.normalize('NFKC', char).replace(chr(0x2044), '/')} "
    return f" {int(value)} "


def _say_number(found: re.Match[str]) -> str:
    """Digits with commas and full stops between: a decimal comma is a point, a long number is digits."""
    number = found.group()
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", number):
        number = number.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d+,\d+", number) and not re.fullmatch(r"\d{1,3},\d{3}", number):
        number = number.replace(",", ".")
    elif not re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", ", ")
    return re.sub(r"\d[\d,]*", _say_digits, number)


def _say_digits(found: re.Match[str]) -> str:
    digits = found.group().replace(",", "")
    if len(digits) <= _LONGEST_NUMBER:
        return found.group()
    groups = (digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))
    return " " + ", ".join(" ".join(group) for group in groups) + ", "


def _say_currency(found: re.Match[str]) -> str:
    return f" {unicodedata.name(found.group()).removesuffix(' SIGN').lower()} "


def _say_address(found: re.Match[str]) -> str:
    names = {".": " dot ", "@": " at ", "/": " slash ", ":": ": "}
    return re.sub(r"[.@/:]", lambda mark: names[mark.group()], re.sub("^https?://", "", found.group()))


_NUMBER = r"\d(?:[\d.,]*\d)?"
_READINGS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    # me@a.org, www.a.org/b, main.py: a name with a full stop, of which the last part is letters.
    (
        re.compile(
            r"(?<![\w.@-])(?:https?://)?[\w-]+(?:[.@][\w-]+)*[.@][A-Za-z]{2,63}\b(?:[:/][\w.@/-]*\w)?"
        ),
        _say_address,
    ),
    (re.compile(rf"[{_SUPERSCRIPTS}]+"), _say_power),
    (re.compile("\N{GREEK SMALL LETTER MU}(?=[A-Za-z])"), "\N{MICRO SIGN}"),
    (re.compile(r"[^\x00-\x7f]"), _say_digit),
    (re.compile(rf"(?<![\w.,{_CURRENCIES}])({_NUMBER})\s?([{_CURRENCIES}])(?![\d{_CURRENCIES}])"), r"\2\1"),
    (re.compile(_NUMBER), _say_number),
    (
        re.compile(rf"[{_CURRENCIES}](?!\d)|(?![{_CURRENCIES}])[\xa4\u058f\u060b\u0e3f\u20a0-\u20c0]"),
        _say_currency,
    ),
]
