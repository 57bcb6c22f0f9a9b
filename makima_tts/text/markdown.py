"""Reads markdown aloud: what of a text with marks in it is spoken.

In: text as received, in any split. Out: what a voice should say, as in ``cleaning``. Does not know: pieces,
time, languages (the rules hold in all ten).

What a place is spoken as depends on the text before it and on a bounded look ahead; a rule that cannot tell
yet waits. Kept-up markdown parsers do not fit: they want the whole text, and may take back how they read its
beginning once its end is there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from makima_tts.text import marks
from makima_tts.text.cleaning import CONTROLS, SpokenText


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open block of code; its first line may close it, too."""

    mark: str
    width: int
    opening_line: bool = True


class MarkdownCleaner:
    """A Cleaner. Each rule reads something and returns True, or returns False to wait for more text."""

    def __init__(self) -> None:
        # From one character before the place of reading, for its context.
        self._text = ""
        self._base = 0
        self._at = 0
        self._ended = False
        self._spoken = SpokenText()
        self._last = ""
        self._start = 0
        # Something was left out since the last spoken character; and it was a picture.
        self._gap = False
        self._picture = False
        self._line_start = True
        self._in_row = False
        self._code_width = 0
        self._fence: _Fence | None = None
        self._emphases: dict[str, list[int]] = {"*": [], "_": [], "~": []}
        # Where a link's text ends → where the link does.
        self._jumps: dict[int, int] = {}

    def feed(self, text: str) -> SpokenText:
        self._text += text
        return self._read(ended=False)

    def flush(self) -> SpokenText:
        return self._read(ended=True)

    def _read(self, *, ended: bool) -> SpokenText:
        self._ended, self._spoken = ended, SpokenText()
        while self._at < len(self._text) and self._read_next():
            pass
        passed = max(self._at - 1, 0)
        self._text, self._base, self._at = self._text[passed:], self._base + passed, self._at - passed
        return self._spoken

    def _read_next(self) -> bool:
        if self._fence is not None:
            return self._skip_code(self._fence)
        if self._line_start:
            return self._line_mark()
        if run := self._ordinary().match(self._text, self._at):
            return self._say(run.group(), len(run.group()))
        if self._code_width and self._char not in "`" + marks.LINE_ENDS:
            return self._symbol()
        return _RULES.get(self._char, MarkdownCleaner._symbol)(self)

    def _ordinary(self) -> re.Pattern[str]:
        if self._code_width:
            return marks.ORDINARY_IN_CODE
        return marks.ORDINARY_IN_ROW if self._in_row else marks.ORDINARY

    # What the rules ask and do

    @property
    def _char(self) -> str:
        return self._text[self._at]

    @property
    def _before(self) -> str:
        return self._text[self._at - 1] if self._at else "\n"

    def _after(self, place: int) -> str:
        return self._text[place] if place < len(self._text) else "\n"

    def _match(self, pattern: re.Pattern[str], limit: int) -> re.Match[str] | None:
        """Here, in so many characters: what lies beyond them may not have arrived."""
        return pattern.match(self._text, self._at, self._at + limit)

    def _must_wait(self, begun: re.Pattern[str], limit: int, place: int | None = None) -> bool:
        place = self._at if place is None else place
        short = not self._ended and len(self._text) - place < limit
        return short and begun.match(self._text, place) is not None

    def _may_grow(self, run: re.Match[str]) -> bool:
        """Whether a run of one mark, or what comes after it, has still to arrive. Patterns bound runs."""
        return run.end() == len(self._text) and not self._ended

    def _say(self, text: str, read: int) -> bool:
        """``text`` is what so many characters of the text are spoken as."""
        begin = self._base + self._at
        starts = list(range(begin, begin + read)) if len(text) == read else [begin] * len(text)
        self._at += read
        if self._gap:
            text, starts = self._closing_gap(text, starts)
        if text:
            starts[0] = self._start
            self._spoken.text += text
            self._spoken.starts += starts
            self._last, self._start = text[-1], self._base + self._at
            self._gap = self._picture = False
        return True

    def _closing_gap(self, text: str, starts: list[int]) -> tuple[str, list[int]]:
        """One space, not two, where something stood between spaces; and one where a picture parted words."""
        if self._last.isspace():
            kept = text.lstrip(" \t")
            return kept, starts[len(text) - len(kept) :]
        if self._picture and self._last.isalnum() and text[:1].isalnum():
            return " " + text, starts[:1] + starts
        return text, starts

    def _say_here(self) -> bool:
        return self._say(self._char, 1)

    def _open(self, read: int) -> bool:
        """Leave out a mark that belongs to what follows it."""
        self._at += read
        self._gap = True
        return True

    def _leave_out(self, read: int) -> bool:
        """Leave out what belongs to the text before it."""
        self._open(read)
        self._start = self._base + self._at
        return True

    # Lines

    def _line_mark(self) -> bool:
        limit = marks.MAX_LINE_MARK_CHARS
        if self._must_wait(marks.LINE_BEGUN, limit):
            return False
        self._line_start = False
        if rule := self._match(marks.RULE, limit):
            return self._leave_out(len(rule.group()))
        if tildes := self._match(marks.TILDES, limit):
            self._fence = _Fence("~", len(tildes.group(1)))
            return self._leave_out(len(tildes.group()))
        if quote := self._match(marks.QUOTE, limit):
            self._line_start = True
            return self._open(len(quote.group()))
        return self._row_or_mark(limit)

    def _row_or_mark(self, limit: int) -> bool:
        if row := self._match(marks.ROW, limit):
            self._in_row = True
            return self._open(len(row.group()))
        mark = self._match(marks.LINE_MARK, limit)
        return mark is None or self._open(len(mark.group()))

    def _line_end(self) -> bool:
        if self._before in marks.LINE_ENDS:
            for widths in self._emphases.values():
                widths.clear()
        self._line_start, self._in_row, self._code_width = True, False, 0
        self._jumps.clear()
        return self._say_here()

    def _row_spaces(self) -> bool:
        run = marks.ROW_SPACES.match(self._text, self._at)
        if run is None:
            return self._symbol()
        if self._may_grow(run):
            return False
        at_bar = self._after(run.end()) == "|"
        return self._leave_out(len(run.group())) if at_bar else self._say(run.group(), len(run.group()))

    def _bar(self) -> bool:
        """Between two cells of a table: a pause."""
        run = marks.BAR.match(self._text, self._at)
        if run is None or not self._in_row:
            return self._say_here()
        if self._may_grow(run):
            return False
        within = self._after(run.end()) not in marks.LINE_ENDS and not (self._last + " ").isspace()
        return self._say(", ", len(run.group())) if within else self._leave_out(len(run.group()))

    # Code

    def _backticks(self) -> bool:
        run = marks.BACKTICKS.match(self._text, self._at)
        if run is None or self._may_grow(run):
            return False
        width = len(run.group())
        if self._code_width:
            self._code_width = 0 if width == self._code_width else self._code_width
            return self._leave_out(width)
        if width >= 3:
            self._fence = _Fence("`", width)
            return self._leave_out(width)
        self._code_width = width
        return self._open(width)

    def _skip_code(self, fence: _Fence) -> bool:
        if fence.opening_line:
            return self._skip_opening_line(fence)
        if self._line_start:
            limit = marks.MAX_LINE_MARK_CHARS
            if self._must_wait(marks.FENCE_END_BEGUN, limit):
                return False
            self._line_start = False
            if end := self._match(marks.fence_end(fence.mark, fence.width), limit):
                self._fence = None
                return self._leave_out(len(end.group()))
        return self._skip_line()

    def _skip_line(self) -> bool:
        line = marks.REST_OF_LINE.match(self._text, self._at)
        skipped = line.group() if line else ""
        self._line_start = skipped.endswith(tuple(marks.LINE_ENDS))
        return self._leave_out(len(skipped))

    def _skip_opening_line(self, fence: _Fence) -> bool:
        if rest := marks.OPENING_LINE[fence.mark].match(self._text, self._at):
            return self._leave_out(len(rest.group()))
        run = marks.BACKTICKS.match(self._text, self._at)
        if run is None:
            self._fence = _Fence(fence.mark, fence.width, opening_line=False)
            return self._skip_line()
        if self._may_grow(run):
            return False
        if len(run.group()) >= fence.width:
            self._fence = None
        return self._leave_out(len(run.group()))

    # Words

    def _delimiters(self) -> bool:
        run = marks.DELIMITERS.match(self._text, self._at)
        if run is None or self._may_grow(run):
            return False
        mark, width, after = self._char, len(run.group()), self._after(run.end())
        if marks.may_close(mark, self._before, after) and self._close_emphasis(self._emphases[mark], width):
            return self._leave_out(width)
        if marks.opens(mark, width, self._before, after):
            self._emphases[mark].append(width)
            return self._open(width)
        return self._say(run.group(), width)

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
            return self._say_here()
        limit = marks.MAX_LINK_TEXT_CHARS
        text = marks.BRACKETED.match(self._text, begin, begin + limit)
        if text is None:
            return not self._must_wait(marks.BRACKETED_BEGUN, limit, begin) and self._say_here()
        if text.end() == len(self._text) and not self._ended:
            return False
        if marks.FOOTNOTE.fullmatch(text.group(1)):
            defined = self._after(text.end()) == ":"
            return self._leave_out(text.end() + defined - self._at)
        return self._link(text)

    def _link(self, text: re.Match[str]) -> bool:
        limit = marks.MAX_TARGET_CHARS
        target = marks.TARGET.match(self._text, text.end(), text.end() + limit)
        if target is None:
            return not self._must_wait(marks.TARGET_BEGUN, limit, text.end()) and self._say_here()
        within_word, address = marks.is_word(self._before), "://" in target.group()
        words = any(map(str.isalpha, text.group(1)))
        if within_word and address and not words:  # the number of a source
            return self._leave_out(target.end() - self._at)
        if (within_word and not address) or (target.group().startswith("[") and not words):
            return self._say_here()
        self._jumps[self._base + text.end() - 1] = self._base + target.end()
        return self._open(text.start() + 1 - self._at)

    def _closing_bracket(self) -> bool:
        end = self._jumps.pop(self._base + self._at, None)
        return self._say_here() if end is None else self._leave_out(end - self._base - self._at)

    def _angle(self) -> bool:
        limit = marks.MAX_TAG_CHARS
        if tag := self._match(marks.TAG, limit):
            return self._tag(tag)
        if comment := self._match(marks.COMMENT, limit):
            return self._leave_out(len(comment.group()))
        if link := self._match(marks.AUTOLINK, limit):
            address = link.group(1).removeprefix("mailto:")
            host = None if "://" not in address else marks.host_of(address)
            return self._say(host or address, len(link.group()))
        return not self._must_wait(marks.ANGLE_BEGUN, limit) and self._say_here()

    def _tag(self, tag: re.Match[str]) -> bool:
        ends, name, length = bool(tag.group(1)), tag.group(2).lower(), len(tag.group())
        if marks.BLOCK_TAGS.fullmatch(name):
            return self._say("\n", length)
        if not marks.INLINE_TAGS.fullmatch(name):
            return self._say_here()
        if name == "sup" and not ends:
            if tag.end() == len(self._text) and not self._ended:
                return False
            if self._after(tag.end()).isdigit() and self._last.isalnum():
                return self._say("^", length)
        return self._leave_out(length) if ends else self._open(length)

    def _entity(self) -> bool:
        if self._must_wait(marks.ENTITY_BEGUN, marks.MAX_ENTITY_CHARS):
            return False
        found = marks.entity(self._text, self._at)
        if found is None:
            return self._say_here()
        meant, length = found
        return self._leave_out(length) if meant in CONTROLS else self._say(meant, length)

    def _escape(self) -> bool:
        if self._at + 1 == len(self._text) and not self._ended:
            return False
        after = self._after(self._at + 1)
        return self._say(after, 2) if after in marks.ESCAPABLE else self._say_here()

    def _address(self) -> bool:
        if self._must_wait(marks.ADDRESS_BEGUN, marks.MAX_RUN_CHARS):
            return False
        here = self._base + self._at
        link_end = min((end - here for end in self._jumps if end >= here), default=marks.MAX_TARGET_CHARS)
        limit = min(link_end, marks.MAX_TARGET_CHARS)
        address = self._match(marks.ADDRESS, limit)
        if address is None:
            return self._say_here()
        if address.end() == len(self._text) and len(address.group()) < limit and not self._ended:
            return False
        trimmed = marks.trimmed_address(address.group())
        host = marks.host_of(trimmed)
        return self._say_here() if host is None else self._say(host, len(trimmed))

    # Signs

    def _symbol(self) -> bool:
        if self._char in CONTROLS:
            return self._open(1)
        if self._must_wait(marks.PICTURE_BEGUN, 2) and not self._match(marks.PICTURE, 1):
            return False
        if picture := self._match(marks.PICTURE, 2):
            return self._leave_out_picture(picture)
        joined = marks.JOINED_PICTURE.match(self._text, self._at)
        if joined is None or not self._picture:
            return self._say_here()
        if self._must_wait(marks.JOINED_PICTURE_BEGUN, 2):
            return False
        return self._leave_out_picture(joined)

    def _leave_out_picture(self, found: re.Match[str]) -> bool:
        self._picture = True
        return self._leave_out(len(found.group()))


_RULES: dict[str, Callable[[MarkdownCleaner], bool]] = {
    **dict.fromkeys(marks.LINE_ENDS, MarkdownCleaner._line_end),
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
