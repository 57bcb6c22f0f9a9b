r"""Markdown within lines: emphasis, code, links, addresses, entities, emoji.

In: text as received, with positions. Out: text as spoken, with positions. Does not know: pieces, time,
languages (the rules hold in all ten).

Why each rule is as it is: docs/text.md. Maintained markdown parsers do not fit: they need the whole text, and
its end may change the meaning of its beginning.
"""

import html
import re
from collections.abc import Callable

from makima_tts.text.lines import FIXED, MAX_LINE_MARK_CHARS, TO_LINE_END, EndsSentence, LineScanner
from makima_tts.text.scanner import LINE_ENDS
from makima_tts.text.tags import ROWS, host_of
from makima_tts.text.visible import visible

MAX_RUN_CHARS = 32
MAX_LINK_TEXT_CHARS = 300
MAX_TARGET_CHARS = 2000
MAX_ENTITY_CHARS = 40

# Emoji by themselves; other symbols of the first plane are emoji only before U+FE0F.
_EMOJI = (
    "\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615"
    "\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5"
    "\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2764\u27b0\u27bf\u2b1b\u2b1c\u2b50"
    "\u2b55"
)
_PERHAPS_EMOJI = "\u2300-\u2bff"
# Variation selectors, keycap frames, letters in the names of flags: none is spoken.
_VARIANTS = "\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f"
EMOJI = re.compile(f"[{_EMOJI}{_VARIANTS}]|[{_PERHAPS_EMOJI}]\ufe0f")
EMOJI_BEGUN = re.compile(rf"[{_PERHAPS_EMOJI}]\Z")
JOINED_EMOJI = re.compile(f"\u200d[{_PERHAPS_EMOJI}]?")
JOINED_EMOJI_BEGUN = re.compile("\u200d\\Z")

_ADDRESS = r"(?:https?://|www\.)"
ADDRESS_BEGUN = re.compile(r"(?i:h(?:t(?:t(?:p(?:s?(?::/?)?)?)?)?)?|w{1,3})\Z")
ADDRESS = re.compile(rf"(?i:{_ADDRESS})[-A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%]*")

_SPECIAL = r"\-\u2010\\`*_~\[\]!<&|($\u200d" + LINE_ENDS + _EMOJI + _PERHAPS_EMOJI + _VARIANTS
_NO_ADDRESS = rf"(?<=[A-Za-z0-9])[HhWw]|(?!(?i:{_ADDRESS})|{ADDRESS_BEGUN.pattern})[HhWw]"
_WITHIN_LINE = rf"[-\u2010](?![{LINE_ENDS}]|\Z)"
# Runs of text without marks.
ORDINARY = re.compile(rf"(?:[^{_SPECIAL}HhWw]+|{_NO_ADDRESS}|{_WITHIN_LINE})+")
ORDINARY_IN_ROW = re.compile(rf"(?:[^{_SPECIAL}HhWw \t]+|{_NO_ADDRESS}|{_WITHIN_LINE})+")
ORDINARY_IN_CODE = re.compile(rf"[^`{LINE_ENDS}]+")

BACKTICKS = re.compile(rf"`{{1,{MAX_RUN_CHARS}}}")
DELIMITERS = re.compile(rf"([*_~])\1{{0,{MAX_RUN_CHARS - 1}}}")
ROW_SPACES = re.compile(rf"[ \t]{{1,{MAX_RUN_CHARS}}}")
BAR = re.compile(rf"\|[ \t]{{0,{MAX_RUN_CHARS - 1}}}")

# Within a line, backticks open a block if code or only its name is left of the line: others are stray.
FENCE_WITHIN_LINE = re.compile(
    rf"(`++)(?:[ \t]*(?:[^\s`]*[^\s`.!?,;:])?[ \t]*{TO_LINE_END}|[^{LINE_ENDS}]*?\1)"
)
FENCE_WITHIN_LINE_BEGUN = re.compile(rf"(`++)(?:(?!\1)[^{LINE_ENDS}])*+\Z")
FENCE_END_BEGUN = re.compile(r"[ \t>]*(?:`*|~*)[ \t]*\Z")
REST_OF_LINE = re.compile(rf"[^{LINE_ENDS}]*[{LINE_ENDS}]?")
OPENING_LINE = {"`": re.compile(rf"[^`{LINE_ENDS}]+"), "~": re.compile(rf"[^{LINE_ENDS}]+")}

# As deep as an image in a link.
_BRACKETED = rf"(?:[^\[\]{LINE_ENDS}]++|\[[^\[\]{LINE_ENDS}]*+\])*+"
BRACKETED = re.compile(rf"\[({_BRACKETED})\]")
BRACKETED_BEGUN = re.compile(rf"\[{_BRACKETED}(?:\[[^\[\]{LINE_ENDS}]*+)?\Z")
FOOTNOTE = re.compile(r"\^\S+")
_URL = r"(?:[^\s()<>]|\([^\s()]*\))*+"
# A run of spaces matches in one way only: backtracking over thousands of them would take seconds.
TARGET = re.compile(
    rf"\([ \t]*+(?:<[^<>\n]*>|{_URL})[ \t]*+(?:(?<=[ \t])(?:\"[^\"\n]*\"|'[^'\n]*'))?[ \t]*+\)"
    r"|\[[^\[\]\n]*\]"
)
TARGET_BEGUN = re.compile(
    rf"\([ \t]*+(?:<[^<>\n]*>?)?{_URL}(?:\([^\s()]*)?[ \t]*+(?:(?<=[ \t])[\"'][^\n]*)?\Z|\[[^\[\]\n]*\Z"
)

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
ENTITY_BEGUN = re.compile(r"&(?:#(?:\d{0,7}|[xX][0-9a-fA-F]{0,6})|[A-Za-z][A-Za-z0-9]{0,31})?\Z")
ESCAPABLE = frozenset("\\`*_~[]()#+-.!|<>")

_FIRST_WIDE = "\u2e80"
_FIRST_EMOJI = "\u2300"
_BEFORE_OPENING = frozenset("([{\"'“‘’«„‚‹¿¡—–:;,.!?/>*_~`-…|→\u20e3")  # noqa: RUF001
_QUOTES = "\"'"
_AFTER_OPENING = frozenset("([{\"'“‘«„‚‹¿¡*_~`$€£¥&\\<!")  # noqa: RUF001
# "**/*.py", "**=", and marks that are named: "*, **, and //", "(**)".
_NEVER_OPENED = frozenset("/=,;)]}”")
_ADDRESS_TRIMMINGS = ".,;:!?*_~'\""


class MarkdownCleaner(LineScanner):
    """From a text as received, what a voice should speak."""

    def __init__(self, ends_sentence: EndsSentence) -> None:
        super().__init__(ends_sentence)
        self._code_width = 0
        self._emphases: dict[str, list[int]] = {"*": [], "_": [], "~": []}
        # Where a link's text ends → where the link does.
        self._jumps: dict[int, int] = {}

    def _consume_next(self) -> bool:
        if self._hidden:
            return self._skip_hidden(self._hidden)
        if self._fence:
            return self._skip_opening_line() if self._fence_opening else self._skip_code()
        if self._line_start:
            return self._line_mark()
        if run := self._ordinary().match(self._text, self._at):
            return self._emit(run.group(), len(run.group()))
        if self._code_width and self._char not in "`" + LINE_ENDS:
            return self._symbol()
        applied = self._apply_rows()
        return _RULES.get(self._char, MarkdownCleaner._symbol)(self) if applied is None else applied

    def _ordinary(self) -> re.Pattern[str]:
        if self._code_width:
            return ORDINARY_IN_CODE
        return ORDINARY_IN_ROW if self._in_row else ORDINARY

    def _line_end(self) -> bool:
        if self._before in LINE_ENDS:
            for widths in self._emphases.values():
                widths.clear()
        ended = super()._line_end()
        if ended:
            self._code_width = 0
            self._jumps.clear()
        return ended

    # Tables

    def _row_spaces(self) -> bool:
        run = ROW_SPACES.match(self._text, self._at)
        if run is None:
            return self._symbol()
        if self._may_grow(run):
            return False
        at_bar = self._after(run.end()) == "|"
        return self._drop(len(run.group())) if at_bar else self._emit(run.group(), len(run.group()))

    def _bar(self) -> bool:
        """Between two cells of a table: a pause."""
        run = BAR.match(self._text, self._at)
        if run is None or not self._in_row:
            return self._emit_char()
        if self._may_grow(run):
            return False
        within = self._after(run.end()) not in LINE_ENDS and not (self._last + " ").isspace()
        return self._emit(", ", len(run.group())) if within else self._drop(len(run.group()))

    # Code

    def _backticks(self) -> bool:
        run = BACKTICKS.match(self._text, self._at)
        if run is None or self._may_grow(run):
            return False
        width = len(run.group())
        if self._code_width:
            self._code_width = 0 if width == self._code_width else self._code_width
            return self._drop(width)
        if width >= 3:
            return self._opening_fence(run.group())
        self._code_width = width
        return self._drop_opening(width)

    def _opening_fence(self, fence: str) -> bool:
        if self._tail.rstrip(" \t")[-1:] not in LINE_ENDS:
            if self._must_wait(FENCE_WITHIN_LINE_BEGUN, MAX_LINK_TEXT_CHARS):
                return False
            if not self._match(FENCE_WITHIN_LINE, MAX_LINK_TEXT_CHARS):
                return self._drop_opening(len(fence))
        self._fence, self._fence_opening = fence, True
        return self._drop(len(fence))

    def _skip_code(self) -> bool:
        if self._line_start:
            limit = MAX_LINE_MARK_CHARS
            if self._must_wait(FENCE_END_BEGUN, limit):
                return False
            self._line_start = False
            if end := self._match(_fence_end(self._fence), limit):
                self._fence, self._line = "", FIXED
                return self._drop(len(end.group()))
        return self._skip_line()

    def _skip_line(self) -> bool:
        line = REST_OF_LINE.match(self._text, self._at)
        skipped = line.group() if line else ""
        self._line_start = skipped.endswith(tuple(LINE_ENDS))
        return self._drop(len(skipped))

    def _skip_opening_line(self) -> bool:
        if rest := OPENING_LINE[self._fence[0]].match(self._text, self._at):
            return self._drop(len(rest.group()))
        run = BACKTICKS.match(self._text, self._at)
        if run is None:
            self._fence_opening = False
            return self._skip_line()
        if self._may_grow(run):
            return False
        if len(run.group()) >= len(self._fence):
            self._fence = ""
        return self._drop(len(run.group()))

    # Emphasis, links, addresses

    def _delimiters(self) -> bool:
        run = DELIMITERS.match(self._text, self._at)
        if run is None or self._may_grow(run):
            return False
        mark, width, after = self._char, len(run.group()), self._after(run.end())
        if _may_close(mark, self._before, after) and self._close_emphasis(self._emphases[mark], width):
            return self._drop(width)
        if _opens(mark, width, self._before, after):
            self._emphases[mark].append(width)
            return self._drop_opening(width)
        return self._emit(run.group(), width)

    @staticmethod
    def _close_emphasis(widths: list[int], width: int) -> bool:
        """Whether a run of this width ends what is open: the last one, a part of it, or the last two."""
        if widths and (widths[-1] == width or (widths[-1] == 3 and width < 3)):
            widths[-1] -= width
            widths[:] = [left for left in widths if left]
            return True
        if width == 3 and sum(widths[-2:]) == 3:
            del widths[-2:]
            return True
        return False

    def _bracket(self) -> bool:
        """``[text](target)``, ``![text](target)``, ``[text][target]``, ``[^note]``, or only a bracket."""
        begin = self._at + (self._char == "!")
        if begin == len(self._text) and not self._ended:
            return False
        if self._after(begin) != "[":
            return self._emit_char()
        limit = MAX_LINK_TEXT_CHARS
        text = BRACKETED.match(self._text, begin, begin + limit)
        if text is None:
            return not self._must_wait(BRACKETED_BEGUN, limit, begin) and self._emit_char()
        if self._may_grow(text):
            return False
        if FOOTNOTE.fullmatch(text.group(1)):
            defined = self._after(text.end()) == ":"
            return self._drop(text.end() + defined - self._at)
        return self._link(text)

    def _link(self, text: re.Match[str]) -> bool:
        limit = MAX_TARGET_CHARS
        target = TARGET.match(self._text, text.end(), text.end() + limit)
        if target is None:
            return not self._must_wait(TARGET_BEGUN, limit, text.end()) and self._emit_char()
        within_word, address = _is_word(self._before), "://" in target.group()
        words = any(map(str.isalpha, text.group(1)))
        if within_word and address and not words:  # the number of a source
            return self._drop(target.end() - self._at)
        if (within_word and not address) or (target.group().startswith("[") and not words):
            return self._emit_char()
        self._jumps[self._base + text.end() - 1] = self._base + target.end()
        return self._drop_opening(text.start() + 1 - self._at)

    def _closing_bracket(self) -> bool:
        end = self._jumps.pop(self._base + self._at, None)
        return self._emit_char() if end is None else self._drop(end - self._base - self._at)

    def _entity(self) -> bool:
        if self._must_wait(ENTITY_BEGUN, MAX_ENTITY_CHARS):
            return False
        found = _ENTITY.match(self._text, self._at)
        meant = html.unescape(found.group()) if found else ""
        if found is None or meant == found.group():
            return self._emit_char()
        meant = visible(meant)
        return self._emit(meant, len(found.group())) if meant else self._drop(len(found.group()))

    def _escape(self) -> bool:
        if self._at + 1 == len(self._text) and not self._ended:
            return False
        after = self._after(self._at + 1)
        if after in LINE_ENDS:
            return self._drop(1)
        return self._emit(after, 2) if after in ESCAPABLE else self._emit_char()

    def _address(self) -> bool:
        if self._must_wait(ADDRESS_BEGUN, MAX_RUN_CHARS):
            return False
        here = self._base + self._at
        link_end = min((end - here for end in self._jumps if end >= here), default=MAX_TARGET_CHARS)
        limit = min(link_end, MAX_TARGET_CHARS)
        address = self._match(ADDRESS, limit)
        if address is None:
            return self._emit_char()
        if address.end() == len(self._text) and len(address.group()) < limit and not self._ended:
            return False
        trimmed = _trimmed_address(address.group())
        host = host_of(trimmed)
        return self._emit_char() if host is None else self._emit(host, len(trimmed))

    # Symbols

    def _symbol(self) -> bool:
        if self._must_wait(EMOJI_BEGUN, 2) and not self._match(EMOJI, 1):
            return False
        if emoji := self._match(EMOJI, 2):
            return self._drop(len(emoji.group())) and self._space_follows()
        joined = JOINED_EMOJI.match(self._text, self._at)
        if joined is None or not self._spaced:
            return self._emit_char()
        if self._must_wait(JOINED_EMOJI_BEGUN, 2):
            return False
        return self._drop(len(joined.group())) and self._space_follows()


_RULES: dict[str, Callable[[MarkdownCleaner], bool]] = {
    **dict.fromkeys(ROWS, MarkdownCleaner._emit_char),
    **dict.fromkeys(LINE_ENDS, MarkdownCleaner._line_end),
    **dict.fromkeys("*_~", MarkdownCleaner._delimiters),
    **dict.fromkeys("[!", MarkdownCleaner._bracket),
    **dict.fromkeys("HhWw", MarkdownCleaner._address),
    **dict.fromkeys(" \t", MarkdownCleaner._row_spaces),
    **dict.fromkeys("-\u2010", MarkdownCleaner._hyphen),
    "`": MarkdownCleaner._backticks,
    "]": MarkdownCleaner._closing_bracket,
    "<": MarkdownCleaner._angle,
    "&": MarkdownCleaner._entity,
    "\\": MarkdownCleaner._escape,
    "|": MarkdownCleaner._bar,
}


def _is_word(char: str) -> bool:
    """Whether a letter beside it would join it: not in scripts without spaces."""
    return char.isalnum() and char < _FIRST_WIDE


def _opens(mark: str, width: int, before: str, after: str) -> bool:
    """Whether a run of ``*``, ``_`` or ``~`` begins an emphasis, or is a symbol of its own."""
    if width > 3 or (mark == "~" and width != 2):
        return False
    if not (before.isspace() or before in _BEFORE_OPENING or before >= _FIRST_EMOJI) or before == mark:
        return False
    if before == after and before in _QUOTES:
        return False
    if width == 1 or mark == "_":
        return after.isalpha() or after in _AFTER_OPENING or after >= _FIRST_WIDE
    return not after.isspace() and after not in _NEVER_OPENED


def _may_close(mark: str, before: str, after: str) -> bool:
    """Whether a run could end an emphasis that is open."""
    if before.isspace() or (before.isdigit() and after.isdigit()):
        return False
    return mark != "_" or not _is_word(after)


def _trimmed_address(address: str) -> str:
    """Without the marks at its end that belong to the surrounding sentence."""
    while address:
        last = address[-1]
        unpaired = {")": "(", "]": "["}.get(last)
        if last not in _ADDRESS_TRIMMINGS and not (
            unpaired and address.count(last) > address.count(unpaired)
        ):
            break
        address = address[:-1]
    return address


def _fence_end(fence: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t>]*{fence[0]}{{{len(fence)},}}[ \t]*{TO_LINE_END}")
