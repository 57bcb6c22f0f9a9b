"""What of a text is spoken.

In: text as received. Out: NFC text without control characters. Does not know: what an engine can speak.
Cleaning never alters what the text says; it takes out what no voice can say.
"""

import unicodedata

# C0 and C1, but for the white space among them, which separates words.
_WHITE_SPACE = "\t\n\v\f\r\x85"
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _WHITE_SPACE}


def clean(text: str) -> str:
    """NFC, without controls and without white space at its ends. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", text.translate(_CONTROLS)).strip()


def is_speakable(text: str) -> bool:
    """Whether there is a letter or a number in it. Punctuation and emoji alone are not speech."""
    return any(map(str.isalnum, text))
