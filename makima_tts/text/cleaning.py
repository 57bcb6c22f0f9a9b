"""What of a text is spoken.

In: text as received. Out: NFC text without control characters. Does not know: what an engine can speak.
Cleaning never alters what the text says; it takes out what no voice can say.
"""

import unicodedata

# C0 and C1 controls, but for the white space among them, which separates words.
_CONTROLS = {
    code: None for code in (*range(0x00, 0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\v\f\r\x85"
}
_SPEAKABLE = ("L", "N")


def clean(text: str) -> str:
    """Unicode NFC, controls dropped, white space at both ends stripped. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", text.translate(_CONTROLS)).strip()


def is_speakable(text: str) -> bool:
    """Whether there is a letter or a number in it. Punctuation and emoji alone are not speech."""
    return any(unicodedata.category(char)[0] in _SPEAKABLE for char in text)
