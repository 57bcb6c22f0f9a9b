"""What of a piece the preview engine's grapheme-to-phoneme step is given.

In: a piece of cleaned text. Out: the text it reads aloud, or InvalidText for a script it would drop without
a word. Does not know: phonemes, audio, engines.
"""

import unicodedata

from makima_tts.errors import InvalidText

# Square brackets are its markup: `[word](/phonemes/)` would let a text dictate phonemes. Both kinds of
# brackets are read alike, so round ones lose nothing.
_BRACKETS = str.maketrans("[]", "()")
# The micro sign, and the Greek letters that English reads by name.
_ENGLISH_SYMBOLS = frozenset("\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}\N{GREEK CAPITAL LETTER OMEGA}π")
_ENGLISH_SCRIPTS = frozenset({"LATIN", "MODIFIER"})
_SCRIPT_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}


def readable(piece: str) -> str:
    """The piece without characters that have no sound and without markup.

    Raises InvalidText, naming the script and nothing of the text, for letters that are not English.
    """
    for char in piece:
        if (script := _foreign_script(char)) is not None:
            raise InvalidText(f"The preview engine speaks English only: it cannot read {script} letters.")
    return "".join(char for char in piece.translate(_BRACKETS) if unicodedata.category(char) != "Cf")


def _foreign_script(char: str) -> str | None:
    """Unicode's name of a letter's script, unless it is one that English is written in."""
    if char.isascii() or char in _ENGLISH_SYMBOLS or unicodedata.category(char)[0] != "L":
        return None
    # Compatibility forms (full width, mathematical, ordinal indicators) are read as the letters they mean.
    plain = unicodedata.normalize("NFKC", char)[0]
    script = unicodedata.name(plain, "UNNAMED").split()[0]
    return None if script in _ENGLISH_SCRIPTS else _SCRIPT_NAMES.get(script, script.capitalize())
