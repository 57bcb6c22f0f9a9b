"""Lines: what stands at their beginning, and whether a line break is a pause or a space.

In: text as received, with positions. Out: text as spoken, with positions. Does not know: marks within lines.

A single line break within a paragraph is a space, as in markdown: people and programs wrap prose at some
width. It stays where a list, a heading, a table, a quotation, a block or an empty line begins or ends, after
two spaces, a backslash or a colon, and where the sentence has ended.
"""

import re
from collections.abc import Callable

from makima_tts.text.scanner import LINE_ENDS
from makima_tts.text.tags import TagScanner

MAX_LINE_MARK_CHARS = 200

TO_LINE_END = rf"(?=[{LINE_ENDS}]|\Z)"
_BULLETS = "-*•‣◦▪·\u2043"
_DASHES = "+\u2013\u2014"
# What shows a state or a direction at the beginning of a line: arrows, boxes, stars, ticks, emoji among them.
_GLYPHS = "\u2139\u2190-\u21ff\u25a0-\u25b6\u25b8-\u25c0\u25c2-\u27bf\u27f0-\u27ff\u2900-\u297f\u2b00-\u2bff"
_EMOJI = "\U0001f1e6-\U0001faff"
_GLYPH = rf"(?:[{_GLYPHS}][\ufe0e\ufe0f]?)+[ \t]*"
_MARK_BEGUN = (
    rf"[{_BULLETS}{_DASHES}`~#_=|: \t]*(?:\[[ xX]?\]?)?[ \t]*(?:[{_GLYPHS}][\ufe0e\ufe0f]?)*[ \t]*"
    r"(?:\d{0,3}[.)]?|[A-Za-z]{1,3}\)?)"
)
_LINE_BEGUN = re.compile(rf"[ \t>]*(?:{_MARK_BEGUN}|~{{3,}}[ \t]*[^\s~]*[ \t]*)\Z")
# Rules, underlined headings, and the line below a table's head.
_RULE = rf"(?=(?:[ \t|:]*[-*_=~]){{3}})[-*_=~|: \t]+{TO_LINE_END}"
_RULE_LINE = re.compile(rf"[ \t]*{_RULE}")
_QUOTE = re.compile(r"[ \t]*>(?![ \t]*\d)[ \t]*")
_ROW = re.compile(r"[ \t]*\|[ \t]*")
_HEADING = re.compile(rf"[ \t]*#{{1,6}}(?:[ \t]+|{TO_LINE_END})")
_ITEM = re.compile(rf"[ \t]*(?:(?:[{_BULLETS}][ \t]+)+(?:\[[ xX]\][ \t]+)?(?:{_GLYPH})?|{_GLYPH})")
_NUMBER = r"(?:\d{1,3}[.)]|[A-Za-z]{1,3}\))"
_NUMBERED = re.compile(rf"(?=[ \t]*{_NUMBER}[ \t])")
# A line that is bold as a whole is a heading.
_BOLD = re.compile(r"(?=\*\*|__)")
# Tildes alone are a rule: people separate scenes by them.
_TILDES = re.compile(rf"[ \t]*(~{{3,}})(?=[ \t]*[^\s~]+[ \t]*{TO_LINE_END})")
# "**Name:** Ann"
_LABEL = r"\*\*[^*\n]{1,40}(?:(?<=:)\*\*|\*\*:)"
# The line break, what it leads over, and the first character of the next line if that is plain text.
_WRAP = re.compile(
    rf"[{LINE_ENDS}](?P<indent>[ \t>]*)(?!{_RULE}|#{{1,6}}(?:[ \t]|{TO_LINE_END})|```|~~~|"
    rf"[{_BULLETS}{_DASHES}][ \t]|[{_GLYPHS}{_EMOJI}]|\d\ufe0f|{_NUMBER}(?:[ \t]|{TO_LINE_END})|"
    rf"\[\^|\||{_LABEL})(?P<first>\S)"
)
_WRAP_BEGUN = re.compile(rf"[{LINE_ENDS}][ \t>]*(?:{_MARK_BEGUN}|\[\^?|\*\*[^*\n]{{0,40}}\*{{0,2}})\Z")
_HYPHEN = re.compile(rf"[-\u2010][{LINE_ENDS}][ \t>]*(?P<word>\w{{1,5}})")
_HYPHEN_BEGUN = re.compile(rf"[-\u2010](?:[{LINE_ENDS}][ \t>]*\w{{0,4}})?\Z")
# "pre- and postwar": the hyphen stands for the rest of a word.
_CONJUNCTIONS = frozenset({"and", "or", "to", "und", "oder", "bis", "et", "ou", "y", "o", "e"})
# Chinese and Japanese have no spaces, nor around marks that they share with other scripts. Korean has.
_WIDE = "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_SHARED = f"[{_WIDE}\u2014\u2018-\u201d\u2026]"
_NO_SPACE = re.compile(f"[{_WIDE}]{_SHARED}|{_SHARED}[{_WIDE}]")
_ENDS_LINE = frozenset({"", *LINE_ENDS, *":："})  # noqa: RUF001
# Kinds of line. The break after a fixed one stays, whatever follows.
FIXED, ITEM, BOLD, PROSE = "fixed", "item", "bold", "prose"


EndsSentence = Callable[[str], bool]


class LineScanner(TagScanner):
    """``ends_sentence``: whether the line break after a text stays, whatever follows."""

    def __init__(self, ends_sentence: EndsSentence) -> None:
        super().__init__()
        self._ends_sentence = ends_sentence
        self._line_start = True
        self._in_row = False
        # The kind of line, and how deep in quotations it is.
        self._line = PROSE
        self._depth = 0
        # The mark that opened a block of code, as "```"; and whether its opening line still lasts.
        self._fence = ""
        self._fence_opening = False

    def _line_mark(self) -> bool:
        limit = MAX_LINE_MARK_CHARS
        if self._must_wait(_LINE_BEGUN, limit):
            return False
        self._line_start = False
        if quote := self._match(_QUOTE, limit):
            self._line_start, self._depth = True, self._depth + 1
            return self._drop_opening(len(quote.group()))
        if tildes := self._match(_TILDES, limit):
            self._fence, self._fence_opening = tildes.group(1), True
            return self._drop(len(tildes.group()))
        self._line = PROSE
        for pattern, line in _LINE_MARKS:
            if mark := self._match(pattern, limit):
                self._line, self._in_row = line, pattern is _ROW
                drop = self._drop if pattern is _RULE_LINE else self._drop_opening
                return not mark.group() or drop(len(mark.group()))
        return True

    def _line_end(self) -> bool:
        if self._may_wrap():
            if self._must_wait(_WRAP_BEGUN, MAX_LINE_MARK_CHARS):
                return False
            wrap = self._match(_WRAP, MAX_LINE_MARK_CHARS)
            if wrap and self._continues(wrap):
                length = wrap.start("first") - self._at
                joined = self._last.isspace() or _NO_SPACE.match(self._last + wrap["first"])
                return self._emit("" if joined else " ", length)
        self._line_start, self._line, self._depth, self._in_row = True, PROSE, 0, False
        return self._emit_char()

    def _may_wrap(self) -> bool:
        """Whether the line so far may be continued by the next one."""
        line = self._tail.rstrip(" \t")
        ended = line[-1:] in _ENDS_LINE or self._ends_sentence(line)
        title = self._line == FIXED or (self._line == BOLD and self._before in "*_")
        return not (ended or title or self._tail.endswith("  ") or self._before == "\\")

    def _continues(self, wrap: re.Match[str]) -> bool:
        if wrap["indent"].count(">") != self._depth:
            return False
        return self._line != ITEM or wrap["indent"] != "" or wrap["first"].islower()

    def _hyphen(self) -> bool:
        """A word that is divided at the end of its line is one word."""
        if self._must_wait(_HYPHEN_BEGUN, MAX_LINE_MARK_CHARS):
            return False
        found = self._match(_HYPHEN, MAX_LINE_MARK_CHARS)
        if found is None or not self._last.isalnum() or self._line == FIXED or found["word"] in _CONJUNCTIONS:
            return self._emit_char()
        kept = "" if self._last.isalpha() and found["word"][0].islower() else self._char
        return self._emit(kept, found.start("word") - self._at)


_LINE_MARKS = [
    (_RULE_LINE, FIXED),
    (_ROW, FIXED),
    (_HEADING, FIXED),
    (_ITEM, ITEM),
    (_NUMBERED, ITEM),
    (_BOLD, BOLD),
]
