"""Characters that are neither seen nor spoken, and the terminal's escape sequences: they reach no engine.

In: text as received, in any split. Out: text without them, with positions. Does not know: markdown, speech.

Kept are the joiners that scripts need (Arabic, Persian, Indic), and what belongs to an emoji: emoji are left
out or kept as a whole. Every line break becomes ``\\n``.
"""

import re
import unicodedata

from makima_tts.text.scanner import begun
from makima_tts.text.words import SpokenText

MAX_ESCAPE_CHARS = 2000

# White space, which separates words; the other control characters are not spoken.
_BREAKS = "\v\f\r\x85\u2028"
_CONTROLS = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffd\U0001d173-\U0001d17a\U000e0100-\U000e0fff"
)
_JOINERS = "\u200c\u200d"
_EMOJI_PARTS = "\ufe0e\ufe0f\U000e0000-\U000e007f"
_SPECIAL = _CONTROLS + _INVISIBLE + _BREAKS + _JOINERS + _EMOJI_PARTS

_VISIBLE = re.compile(f"[^{_SPECIAL}]+")
_HAS_INVISIBLE = re.compile(f"[{_SPECIAL}]")
_BREAK = re.compile(f"\r\n?|[{_BREAKS}]")
# CSI, then strings such as the OSC that sets a title or a link, then the short sequences (ECMA-48).
_CSI = ("(?:\x1b\\[|\x9b)", "[0-?]{0,64}", "[ -/]{0,8}")
_STRING = ("(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])", f"[^{_CONTROLS}\n]*")
_SHORT = ("\x1b", "[()#%]")
_HYPHEN = ("\u00ad", "\r?", "\n?", "[ \t]{0,64}")
_NEITHER = re.compile(
    "|".join(
        (
            "".join(_CSI) + "[@-~]",
            "".join(_STRING) + "(?:\x07|\x1b\\\\|\x9c)",
            "".join(_SHORT) + "[0-9A-Za-z]|\x1b[78=>cM]",
            "\u00ad\r?\n[ \t]{0,64}",
            f"[{_CONTROLS}{_INVISIBLE}]",
        )
    )
)
_BEGUN = [begun(*_CSI), begun(*_STRING, "\x1b"), begun(*_SHORT), begun(*_HYPHEN), re.compile("\r\\Z")]
_MAY_BEGIN = "\x1b\x9b\x9d\x90\x98\x9e\x9f\u00ad\r"
# Scripts whose letters change their shape at a joiner; and pictures that are joined to one.
_JOINS_LETTERS = re.compile("[\u0600-\u1aff\ua800-\uabff\U00010a00-\U00011fff]")
_JOINS_EMOJI = re.compile("[\u2190-\u2bff\U0001f000-\U0001faff\ufe0f]")
_IS_TAG = re.compile("[\U000e0000-\U000e007f]")


class VisibleText:
    """``feed`` and ``flush`` return what became certain. Bounded look-ahead: an escape sequence's length."""

    def __init__(self) -> None:
        # What is not decided yet.
        self.held = ""
        self.received = 0
        self._last = ""

    def feed(self, text: str) -> SpokenText:
        return self._filter(text, ended=False)

    def flush(self) -> SpokenText:
        return self._filter("", ended=True)

    def _filter(self, text: str, *, ended: bool) -> SpokenText:
        base, self.received = self.received - len(self.held), self.received + len(text)
        text, at, kept = self.held + text, 0, SpokenText()
        while at < len(text) and not (not ended and _is_begun(text, at)):
            end, spoken = self._next(text, at)
            if spoken:
                begins = list(range(base + at, base + at + len(spoken)))
                kept.extend(SpokenText(spoken, [*begins], begins, [*begins[1:], base + end]))
                self._last = spoken[-1]
            at = end
        self.held = text[at:]
        return kept

    def _next(self, text: str, at: int) -> tuple[int, str]:
        """Where what stands here ends, and what stays of it."""
        if run := _VISIBLE.match(text, at):
            return run.end(), run.group()
        if line_break := _BREAK.match(text, at):
            return line_break.end(), "\n"
        if neither := _NEITHER.match(text, at, at + MAX_ESCAPE_CHARS):
            return neither.end(), ""
        return at + 1, text[at] if self._stays(text[at]) else ""

    def _stays(self, char: str) -> bool:
        """Whether a joiner or a part of an emoji belongs to what stands before it."""
        if char in _JOINERS:
            emoji = char == "\u200d" and _JOINS_EMOJI.match(self._last)
            return bool(emoji or _JOINS_LETTERS.match(self._last))
        return bool(_IS_TAG.match(self._last)) or unicodedata.category(self._last or " ")[0] in "NPS"


def _is_begun(text: str, at: int) -> bool:
    if text[at] not in _MAY_BEGIN or len(text) - at >= MAX_ESCAPE_CHARS:
        return False
    return any(pattern.match(text, at) for pattern in _BEGUN)


def visible(text: str) -> str:
    """A whole text without what is neither seen nor spoken."""
    if _HAS_INVISIBLE.search(text) is None:
        return text
    cleaner = VisibleText()
    return cleaner.feed(text).text + cleaner.flush().text
