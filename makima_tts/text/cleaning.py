r"""Text cleaning: from a text as received, with or without markdown, what a voice should speak.

In: text as received, in any split. Out: text as spoken. Does not know: pieces, time, languages (the rules
hold in all ten).

The result at a position depends on the text before it and on a bounded look-ahead. A rule that cannot decide
yet waits for more text: where more text could make a pattern match, or match something else, its ``…_BEGUN``
matches up to the end (``\Z``). Each wait is bounded by a ``MAX_…_CHARS``. Why each rule is as it is:
docs/text.md. Maintained markdown parsers do not fit: they need the whole text, and its end may change the
meaning of its beginning.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from makima_tts.errors import NothingToSay
from makima_tts.text.words import SpokenText

TextCleaning = Literal["markdown", "plain"]

# C0 and C1, without their white space, which separates words.
_WHITE_SPACE = "\t\n\v\f\r\x85"
CONTROLS = "".join(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _WHITE_SPACE)
_CONTROLS = str.maketrans("", "", CONTROLS)
_WITHOUT_CONTROLS = re.compile(f"[^{re.escape(CONTROLS)}]+")


def clean(text: str) -> str:
    """NFC, without controls and without white space at its ends. Newlines inside stay: they separate."""
    return unicodedata.normalize("NFC", text.translate(_CONTROLS)).strip()


def without_controls(text: str, start: int) -> SpokenText:
    """The text as spoken where marks of markdown are spoken too. ``start``: its position as received."""
    spoken = SpokenText()
    for run in _WITHOUT_CONTROLS.finditer(text):
        begins = list(range(start + run.start(), start + run.end()))
        spoken.extend(SpokenText(run.group(), [*begins], begins, [begin + 1 for begin in begins]))
    return spoken


def is_speakable(text: str) -> bool:
    """Whether it holds a letter or a number. Punctuation and emoji alone are not speech."""
    return any(map(str.isalnum, text))


# An engine ended without any audio.
NOTHING_SPOKEN = "This engine found nothing to speak in this text; send words."


def nothing_to_say(text: str) -> NothingToSay:
    """The error for a text without pieces: why nothing of it is spoken."""
    if is_speakable(text):
        return NothingToSay("Nothing in this text is spoken, such as a block of code; send words.")
    return NothingToSay("There is nothing to speak in this text; send words or numbers.")


MAX_RUN_CHARS = 32
MAX_LINE_MARK_CHARS = 200
MAX_LINK_TEXT_CHARS = 300
MAX_TARGET_CHARS = 2000
MAX_TAG_CHARS = 300
MAX_ENTITY_CHARS = 40

LINE_ENDS = "\n\u2029"

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
_HOST = re.compile(r"(?i:https?://(?:[^/?#@]*@)?(?:www\.)?|www\.)([A-Za-z0-9][^/?#:]*)")

_SPECIAL = re.escape(CONTROLS) + r"\\`*_~\[\]!<&|\u200d" + LINE_ENDS + _EMOJI + _PERHAPS_EMOJI + _VARIANTS
_NO_ADDRESS = rf"(?<=[A-Za-z0-9])[HhWw]|(?!(?i:{_ADDRESS})|{ADDRESS_BEGUN.pattern})[HhWw]"
# Runs of text without marks.
ORDINARY = re.compile(rf"(?:[^{_SPECIAL}HhWw]+|{_NO_ADDRESS})+")
ORDINARY_IN_ROW = re.compile(rf"(?:[^{_SPECIAL}HhWw \t]+|{_NO_ADDRESS})+")
ORDINARY_IN_CODE = re.compile(rf"[^`{re.escape(CONTROLS)}{LINE_ENDS}]+")

BACKTICKS = re.compile(rf"`{{1,{MAX_RUN_CHARS}}}")
DELIMITERS = re.compile(rf"([*_~])\1{{0,{MAX_RUN_CHARS - 1}}}")
ROW_SPACES = re.compile(rf"[ \t]{{1,{MAX_RUN_CHARS}}}")
BAR = re.compile(rf"\|[ \t]{{0,{MAX_RUN_CHARS - 1}}}")

_TO_LINE_END = rf"(?=[{LINE_ENDS}]|\Z)"
LINE_BEGUN = re.compile(r"[ \t>]*[-`~#*_=|:>•‣◦▪ \t]*(?:\[[ xX]?\]?)?\Z")
# Rules, underlined headings, and the line below a table's head.
RULE = re.compile(rf"[ \t]*(?=(?:[ \t|:]*[-*_=]){{3}})[-*_=|: \t]+{_TO_LINE_END}")
QUOTE = re.compile(r"[ \t]*>(?![ \t]*\d)[ \t]*")
ROW = re.compile(r"[ \t]*\|[ \t]*")
LINE_MARK = re.compile(rf"[ \t]*(?:#{{1,6}}(?:[ \t]+|{_TO_LINE_END})|[-*•‣◦▪][ \t]+(?:\[[ xX]\][ \t]+)?)")
TILDES = re.compile(r"[ \t]*(~{3,})")
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

_VALUE = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'<>=]+)"
_ATTRIBUTES = rf"(?:[ \t]+[\w:-]+={_VALUE})*"
TAG = re.compile(rf"<(/?)([A-Za-z][A-Za-z0-9]*){_ATTRIBUTES}[ \t]*/?>")
COMMENT = re.compile(r"<!--[^\n]*?-->")
AUTOLINK = re.compile(r"<(?!!--)((?i:https?://|mailto:)[^\s<>]+|[^\s<>@]+@[^\s<>@]+)>")
ANGLE_BEGUN = re.compile(
    rf"<(?:[^\s<>]*|!--[^\n]*|/?[A-Za-z][A-Za-z0-9]*{_ATTRIBUTES}"
    r"(?:[ \t]+(?:[\w:-]+(?:=(?:\"[^\"\n]*|'[^'\n]*|[^\s\"'<>=]*))?)?/?)?)\Z"
)
BLOCK_TAGS = re.compile("br|p|div|li|tr|h[1-6]|hr|blockquote|table|ul|ol|pre")
INLINE_TAGS = re.compile(
    "a|abbr|b|center|cite|code|dd|del|details|dl|dt|em|font|i|img|ins|kbd|mark|q|s|small|span|strike|strong|"
    "sub|summary|sup|tbody|td|th|thead|u"
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


class MarkdownCleaner:
    """``feed`` and ``flush`` return the text as spoken that became certain: no later text can change it.

    ``flush`` decides everything as if the text ended there; more may follow. A rule consumes something and
    returns True, or returns False to wait for more text.
    """

    def __init__(self) -> None:
        # The text from one character before the current position, for its context; where it begins in the
        # text as received; and the current position in it.
        self._text = ""
        self._base = 0
        self._at = 0
        self._ended = False
        self._spoken = SpokenText()
        # The last spoken character, and where the next one begins in the text as received.
        self._last = ""
        self._start = 0
        # Something was dropped since the last spoken character; and it was an emoji.
        self._gap = False
        self._emoji = False
        self._line_start = True
        self._in_row = False
        self._code_width = 0
        # The mark that opened a block of code, as "```"; and whether its opening line still lasts.
        self._fence = ""
        self._fence_opening = False
        self._emphases: dict[str, list[int]] = {"*": [], "_": [], "~": []}
        # Where a link's text ends → where the link does.
        self._jumps: dict[int, int] = {}

    def feed(self, text: str) -> SpokenText:
        self._text += text
        return self._consume(ended=False)

    def flush(self) -> SpokenText:
        return self._consume(ended=True)

    def settle(self) -> SpokenText:
        """The writer pauses: an exclamation mark that could begin an image does not. More may follow."""
        return self._consume(ended=self.held == "!")

    @property
    def held(self) -> str:
        """The text that is not decided yet."""
        return self._text[self._at :]

    def _consume(self, *, ended: bool) -> SpokenText:
        self._ended, self._spoken = ended, SpokenText()
        while self._at < len(self._text) and self._consume_next():
            pass
        passed = max(self._at - 1, 0)
        self._text, self._base, self._at = self._text[passed:], self._base + passed, self._at - passed
        return self._spoken

    def _consume_next(self) -> bool:
        if self._fence:
            return self._skip_opening_line() if self._fence_opening else self._skip_code()
        if self._line_start:
            return self._line_mark()
        if run := self._ordinary().match(self._text, self._at):
            return self._emit(run.group(), len(run.group()))
        if self._code_width and self._char not in "`" + LINE_ENDS:
            return self._symbol()
        return _RULES.get(self._char, MarkdownCleaner._symbol)(self)

    def _ordinary(self) -> re.Pattern[str]:
        if self._code_width:
            return ORDINARY_IN_CODE
        return ORDINARY_IN_ROW if self._in_row else ORDINARY

    # What the rules use

    @property
    def _char(self) -> str:
        return self._text[self._at]

    @property
    def _before(self) -> str:
        return self._text[self._at - 1] if self._at else "\n"

    def _after(self, position: int) -> str:
        return self._text[position] if position < len(self._text) else "\n"

    def _match(self, pattern: re.Pattern[str], limit: int) -> re.Match[str] | None:
        """A match here, within ``limit`` characters: later text may not have arrived."""
        return pattern.match(self._text, self._at, self._at + limit)

    def _must_wait(self, begun: re.Pattern[str], limit: int, position: int | None = None) -> bool:
        position = self._at if position is None else position
        short = not self._ended and len(self._text) - position < limit
        return short and begun.match(self._text, position) is not None

    def _may_grow(self, run: re.Match[str]) -> bool:
        """Whether more text may extend what matched, or has to follow it. Patterns bound runs of one mark."""
        return run.end() == len(self._text) and not self._ended

    def _emit(self, text: str, length: int) -> bool:
        """Speak ``text`` for the next ``length`` characters."""
        begin = self._base + self._at
        if len(text) == length:
            begins = list(range(begin, begin + length))
            ends = list(range(begin + 1, begin + length + 1))
        else:
            begins, ends = [begin] * len(text), [begin + length] * len(text)
        self._at += length
        if self._gap:
            text, begins, ends = self._closing_gap(text, begins, ends)
        if text:
            self._spoken.extend(SpokenText(text, [self._start, *begins[1:]], begins, ends))
            self._last, self._start = text[-1], self._base + self._at
            self._gap = self._emoji = False
        return True

    def _closing_gap(self, text: str, begins: list[int], ends: list[int]) -> tuple[str, list[int], list[int]]:
        """One space where something stood between two; and one where an emoji separated words."""
        if self._last.isspace():
            kept = text.lstrip(" \t")
            dropped = len(text) - len(kept)
            return kept, begins[dropped:], ends[dropped:]
        if self._emoji and self._last.isalnum() and text[:1].isalnum():
            return " " + text, begins[:1] + begins, begins[:1] + ends
        return text, begins, ends

    def _emit_char(self) -> bool:
        return self._emit(self._char, 1)

    def _drop_opening(self, length: int) -> bool:
        """Drop a mark that belongs to the text after it."""
        self._at += length
        self._gap = True
        return True

    def _drop(self, length: int) -> bool:
        """Drop something that belongs to the text before it."""
        self._drop_opening(length)
        self._start = self._base + self._at
        return True

    # Lines

    def _line_mark(self) -> bool:
        limit = MAX_LINE_MARK_CHARS
        if self._must_wait(LINE_BEGUN, limit):
            return False
        self._line_start = False
        if rule := self._match(RULE, limit):
            return self._drop(len(rule.group()))
        if tildes := self._match(TILDES, limit):
            self._fence, self._fence_opening = tildes.group(1), True
            return self._drop(len(tildes.group()))
        if quote := self._match(QUOTE, limit):
            self._line_start = True
            return self._drop_opening(len(quote.group()))
        if row := self._match(ROW, limit):
            self._in_row = True
            return self._drop_opening(len(row.group()))
        mark = self._match(LINE_MARK, limit)
        return mark is None or self._drop_opening(len(mark.group()))

    def _line_end(self) -> bool:
        if self._before in LINE_ENDS:
            for widths in self._emphases.values():
                widths.clear()
        self._line_start, self._in_row, self._code_width = True, False, 0
        self._jumps.clear()
        return self._emit_char()

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
            self._fence, self._fence_opening = run.group(), True
            return self._drop(width)
        self._code_width = width
        return self._drop_opening(width)

    def _skip_code(self) -> bool:
        if self._line_start:
            limit = MAX_LINE_MARK_CHARS
            if self._must_wait(FENCE_END_BEGUN, limit):
                return False
            self._line_start = False
            if end := self._match(_fence_end(self._fence), limit):
                self._fence = ""
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

    def _angle(self) -> bool:
        limit = MAX_TAG_CHARS
        if tag := self._match(TAG, limit):
            return self._tag(tag)
        if comment := self._match(COMMENT, limit):
            return self._drop(len(comment.group()))
        if link := self._match(AUTOLINK, limit):
            address = link.group(1).removeprefix("mailto:")
            host = None if "://" not in address else _host_of(address)
            return self._emit(host or address, len(link.group()))
        return not self._must_wait(ANGLE_BEGUN, limit) and self._emit_char()

    def _tag(self, tag: re.Match[str]) -> bool:
        ends, name, length = bool(tag.group(1)), tag.group(2).lower(), len(tag.group())
        if BLOCK_TAGS.fullmatch(name):
            return self._emit("\n", length)
        if not INLINE_TAGS.fullmatch(name):
            return self._emit_char()
        if name == "sup" and not ends:
            if self._may_grow(tag):
                return False
            if self._after(tag.end()).isdigit() and self._last.isalnum():
                return self._emit("^", length)
        return self._drop(length) if ends else self._drop_opening(length)

    def _entity(self) -> bool:
        if self._must_wait(ENTITY_BEGUN, MAX_ENTITY_CHARS):
            return False
        found = _entity(self._text, self._at)
        if found is None:
            return self._emit_char()
        meant, length = found
        return self._drop(length) if meant in CONTROLS else self._emit(meant, length)

    def _escape(self) -> bool:
        if self._at + 1 == len(self._text) and not self._ended:
            return False
        after = self._after(self._at + 1)
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
        host = _host_of(trimmed)
        return self._emit_char() if host is None else self._emit(host, len(trimmed))

    # Symbols

    def _symbol(self) -> bool:
        if self._char in CONTROLS:
            return self._drop_opening(1)
        if self._must_wait(EMOJI_BEGUN, 2) and not self._match(EMOJI, 1):
            return False
        if emoji := self._match(EMOJI, 2):
            return self._drop_emoji(emoji)
        joined = JOINED_EMOJI.match(self._text, self._at)
        if joined is None or not self._emoji:
            return self._emit_char()
        if self._must_wait(JOINED_EMOJI_BEGUN, 2):
            return False
        return self._drop_emoji(joined)

    def _drop_emoji(self, found: re.Match[str]) -> bool:
        self._emoji = True
        return self._drop(len(found.group()))


_RULES: dict[str, Callable[[MarkdownCleaner], bool]] = {
    **dict.fromkeys(LINE_ENDS, MarkdownCleaner._line_end),
    **dict.fromkeys("*_~", MarkdownCleaner._delimiters),
    **dict.fromkeys("[!", MarkdownCleaner._bracket),
    **dict.fromkeys("HhWw", MarkdownCleaner._address),
    **dict.fromkeys(" \t", MarkdownCleaner._row_spaces),
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


def _host_of(address: str) -> str | None:
    """The part of an address that people say."""
    found = _HOST.match(address)
    return found and found.group(1)


def _entity(text: str, position: int) -> tuple[str, int] | None:
    """The character that an entity stands for, and the length of the entity."""
    found = _ENTITY.match(text, position)
    meant = html.unescape(found.group()) if found else ""
    if found is None or meant == found.group():
        return None
    return meant, len(found.group())


def _fence_end(fence: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t>]*{fence[0]}{{{len(fence)},}}[ \t]*{_TO_LINE_END}")
