r"""Tags: what a language model or a program writes for a program, and instructions to a voice.

In: text as received, with positions. Out: text as spoken, with positions. Does not know: markdown, lines.

Each kind of mark is a row of ``ROWS``. A row with ``hides_until`` opens a block that is not speech, such as
reasoning or a tool call. At the beginning of a text it is dropped as it arrives, closed or not. Elsewhere it
is held until its end arrives: without one, the mark was a stray one, and only the mark is dropped.
"""

import re
from dataclasses import dataclass

from makima_tts.text.scanner import LINE_ENDS, TextScanner, begun

MAX_TAG_CHARS = 300
# As much as an utterance: a block that is longer does not end.
MAX_HELD_CHARS = 20_000
# What ends a block is shorter than this.
MAX_END_CHARS = 120

_VALUE = r"(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'<>=]++)"
_NAME = r"[A-Za-z][\w.:-]*+"
_ATTRIBUTES = rf"(?:\s++[\w.:-]++\s*+=\s*+{_VALUE})*+"
TAG = re.compile(rf"<(/?)({_NAME})({_ATTRIBUTES})\s*+(/?)>")
COMMENT = re.compile(r"<!--[^\n]*?-->|<[?!][A-Za-z][^<>]*+>")
AUTOLINK = re.compile(r"<(?!!--)((?i:https?://|mailto:)[^\s<>]+|[^\s<>@]+@[^\s<>@]+)>")
_HOST = re.compile(r"(?i:https?://(?:[^/?#@]*@)?(?:www\.)?|www\.)([A-Za-z0-9][^/?#:]*)")
# A word, or several between spaces: "<your name>".
PLACEHOLDER = re.compile(r"(?<!\w)<([A-Za-z][\w'-]*(?: [\w'-]+){1,4})>")
ANGLE_BEGUN = re.compile(
    rf"<(?:[^\s<>]*|[?!][A-Za-z][^<>]*|!--[^\n]*|(?<!\w<)[A-Za-z][\w' -]{{0,60}}|/?{_NAME}{_ATTRIBUTES}"
    r"(?:\s*+(?:[\w.:-]++\s*+(?:=\s*+(?:\"[^\"]*+|'[^']*+|[^\s\"'<>=]*+))?)?/?\s*+)?)\Z"
)


def _in_place(spoken: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), spoken)


# Tags by name → what is spoken in their place; what they enclose is spoken. HTML, SSML with the extensions of
# its services, and what models put around their answers.
TAGS = {
    **_in_place(
        "\n",
        "br p div li tr h1 h2 h3 h4 h5 h6 hr blockquote table ul ol pre dl dt dd details summary section "
        "article main header footer nav figure figcaption break pause par seq media",
    ),
    **_in_place(" ", "s td th option"),
    **_in_place(
        "",
        "a abbr b center cite code del em font i img ins kbd mark q small span strike strong sub sup tbody "
        "thead u html body head speak prosody emphasis say-as phoneme voice lang audio w token desc metadata "
        "meta lexicon lookup bookmark viseme express-as effect domain volume speed pitch emotion "
        "answer response output final final_answer result reply message solution "
        "bos eos unk pad end_of_turn end_of_utterance",
    ),
}
# Elements that are not speech. Prefixed names count too: "seed:think", "minimax:tool_call".
_HIDDEN = (
    "think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad|inner_monologue|"
    "(?:\\w+_)?tool_?(?:calls?|uses?|responses?|results?|outputs?|code)|"
    "function_?(?:calls?|responses?|results?|outputs?)|invoke|functions?|tools|script|style"
)
# The fullwidth bar is DeepSeek's.
_BAR = "[|｜]"  # noqa: RUF001
_TOKEN = "[^\\s<>|｜]"  # noqa: RUF001, S105 - a character of a special token's name
# A channel's name, its recipient, and the format of its message.
_HARMONY = (r"<\|channel\|>", "[^<]{0,100}+", r"(?:<\|c[^<]{0,80}+)?", *map(re.escape, "<|message|>"))
_SOUND = (
    r"(?:[a-z]+ly )?(?:laugh|chuckl|giggl|snicker|sigh|gasp|cough|whisper|sniff|sob|groan|gulp|yawn|snort|"
    r"exhal|inhal|breath|scoff|shout|smil|grin|wink|nod|shrug|clap)(?:s|es?|ed|ing|ter)?(?: [a-z]+ly)?|"
    r"cr(?:ies|ying)|clear(?:s|ing) (?:[a-z]+ )?throat|(?:takes )?(?:a )?deep breath|hums?|humming|"
    r"sings?|singing|pauses?"
)
_MOOD = (
    r"applause|music|silence|noise|background [a-z]+|inaudible|excited|sad|happy|angry|surprised|sarcastic|"
    r"curious|nervous|calm|serious|cheerful|(?:excited|sad|happi|angri|sarcastical|nervous|calm|soft|slow)ly"
)
_PAUSE = r"(?:pause|break|silence|beat)(?:[:= ]{1,2}\d+(?:\.\d+)?(?: ?(?:ms|s|sec|seconds?))?)?"
# Words of prose have four letters sooner or later, so the end of a formula is not waited for long.
_FORMULA = (
    r"[A-Za-z]++(?=\$|\Z)|(?:\{[^{}$\n]{0,60}+(?:\}|\Z)|\\(?:[A-Za-z]+|[^\n]|\Z)|"
    r"(?<![A-Za-z])[A-Za-z]{1,3}(?![A-Za-z])|[^A-Za-z$\\\n])++"
)
# What follows the number of a price, and no number in a formula.
_PRICE = r"\d[\d.,]*+[kKmMbB]?(?:[;:!?)]|\s(?=[^-+=*/<>^\\\s]))"


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of mark: its pattern in ``parts``, after each of which the text received so far may end.

    ``spoken``: in its place; the group "said" of the pattern is spoken where there is one. ``hides_until``:
    a pattern, with groups of the mark. ``certain``: never a stray mark. ``starts``: where a sentence starts.
    """

    parts: tuple[str, ...]
    spoken: str = ""
    hides_until: str = ""
    certain: bool = False
    starts: bool = False


# By the character that a mark begins with. The first row that matches counts.
ROWS = {
    "<": [
        # Reasoning and tool calls.
        Row((rf"(?i:<((?:[\w.]+:)?(?:{_HIDDEN})){_ATTRIBUTES}\s*+>)",), hides_until=r"(?i:</\1\s*>)"),
        Row((r"<function=[^<>\s]+>",), hides_until=r"</function>"),
        Row((rf"<({_BAR}{{1,2}}DSML{_BAR}{{1,2}})", r" ?(\w++)", "[^<>]*+", ">"), hides_until=r"</\1 ?\2>"),
        Row(
            (rf"{_HARMONY[0]}(?!\s*final\b)", *_HARMONY[1:]),
            hides_until=r"<\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)",
        ),
        Row(_HARMONY),
        Row((r"<\|channel>", r"(?:(?!final)[a-z])++"), hides_until=r"<channel\|>"),
        Row((r"<\|(tool_call|tool_response|tool)>",), hides_until=r"<\1\|>"),
        Row(
            (
                rf"(?i:<({_BAR})(?={_TOKEN}*(?:think|thought|tool|action|inner|reason))({_TOKEN}*?)"
                rf"(?:begin|start|prefix)({_TOKEN}*)\1>)",
            ),
            hides_until=r"(?i:<\1\2(?:end|suffix)\3\1>)",
        ),
        Row((r"<\|tool_call\|>",), hides_until=r"<\|/tool_call\|>"),
        Row((r"<\|python_tag\|>",), hides_until=r"<\|eo[mt]_id\|>"),
        # Special tokens of chat templates.
        Row((r"<\|start\|>", r"[^<\n]{0,100}+", r"(?=<)")),
        Row((r"<(?:\|im_start\||\|start_header_id\||\|turn|start_of_turn)>", r"\w*+", r"\n?")),
        Row((rf"</?{_BAR}[^\s<>]{{1,60}}>|<{_TOKEN}{{1,60}}{_BAR}>",)),
        # Instructions to a voice.
        Row((r"(?i:<sub\s+alias\s*=\s*([\"'])(?P<said>[^\"'<>]*)\1\s*>)", "[^<]{0,200}+", *"</sub>")),
        Row((r"<#\d+(?:\.\d+)?#>",), spoken="\n"),
    ],
    "[": [
        Row((r"\[(THINK|TOOL_RESULTS|AVAILABLE_TOOLS)\]",), hides_until=r"\[/\1\]"),
        Row(
            (r"\[TOOL_CALLS\]", r"\s*+", r"[\w.-]*+", r"\s*+", r"[\[{]"),
            hides_until=r"</s>|\[/TOOL_CALLS\]",
            certain=True,
        ),
        Row((r"\[/?(?:INST|THINK|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]",)),
        Row((rf"(?i:\[{_PAUSE}\](?![(\[])|\[\[slnc \d+\]\])",), spoken="\n"),
        Row((rf"(?i:\[(?:{_SOUND}|{_MOOD})\](?![(\[]))",)),
    ],
    "(": [
        Row((rf"(?i:\({_PAUSE}\))",), spoken="\n"),
        Row((rf"(?i:\((?:{_SOUND})\))",)),
    ],
    "*": [Row((rf"(?i:\*(?:{_SOUND})\*(?!\*))",), starts=True)],
    "◁": [Row(("◁think▷",), hides_until="◁/think▷"), Row(("◁/think▷",))],
    # Formulas lose their delimiters.
    "$": [
        Row((r"\$\$", r"(?P<said>[^$]+)", r"\$", r"\$")),
        Row((rf"\$(?![\s$]|{_PRICE})", rf"(?P<said>{_FORMULA})", r"(?<!\s)\$(?![\w$])")),
    ],
    "\\": [
        Row((r"\\\(", r"(?P<said>(?:[^\\\n]|\\(?:[^)\n]|\Z))++)", r"\\\)")),
        Row((r"\\\[", r"(?P<said>(?:[^\\]|\\(?:[^\]]|\Z))++)", r"\\\]")),
    ],
}
# A mark whose name or first word is not complete.
_BEGUN = {
    "<": r"<[^\s<>]*",
    "[": rf"\[[^\[\]{LINE_ENDS}]*+\]?|\[\[slnc[ \d]*\]?",
    "(": r"\([A-Za-z :=.\d]{0,30}",
    "*": r"\*[A-Za-z ]{0,30}",
    "◁": "◁[/a-z]*",
}
_Compiled = tuple[re.Pattern[str], re.Pattern[str], Row]
_COMPILED: dict[str, list[_Compiled]] = {
    first: [
        (re.compile("".join(row.parts)), begun(*row.parts, name=_BEGUN.get(first, "")), row) for row in rows
    ]
    for first, rows in ROWS.items()
}
_SENTENCE_ENDS = frozenset(".!?…。！？:\n")  # noqa: RUF001


class TagScanner(TextScanner):
    def __init__(self) -> None:
        super().__init__()
        self._left_out: list[tuple[int, int]] = []
        self._left_out_chars = 0
        # What ends the block that is being dropped.
        self._hidden: re.Pattern[str] | None = None
        # Whether a block is held, and by its end: where in the whole text no end was found before.
        self._holds = False
        self._searched: dict[str, int] = {}

    @property
    def left_out(self) -> list[tuple[int, int]]:
        """Where blocks that are not speech begin and end in the text as received."""
        if self._hidden is None or not self._ends:
            return self._left_out
        return [*self._left_out[:-1], (self._left_out[-1][0], self._ends[-1])]

    @property
    def left_out_chars(self) -> int:
        """Their length, and the length of what is held because it may be one."""
        return self._left_out_chars + (len(self._text) - self._at if self._holds else 0)

    def _apply_rows(self) -> bool | None:
        """None: no row matches here."""
        for pattern, begun_, row in _COMPILED.get(self._char, ()):
            if row.starts and not self._starts_sentence():
                continue
            found = self._match(pattern, MAX_TAG_CHARS)
            if self._may_grow(found) if found else self._must_wait(begun_, MAX_TAG_CHARS):
                return False
            if found:
                return self._apply(row, found)
        return None

    def _apply(self, row: Row, found: re.Match[str]) -> bool:
        if row.hides_until:
            ends = re.sub(
                r"\\([1-9])", lambda number: re.escape(found.group(int(number[1]))), row.hides_until
            )
            return self._hide(found, re.compile(ends), certain=row.certain)
        if "said" in found.groupdict():
            return self._emit_within(found, "said")
        length = len(found.group())
        if row.spoken:
            return self._emit(row.spoken, length)
        if self._char == "<":  # a special token is not a part of a sentence, as "(laughs)" is
            self._leave_out(found.end())
        return self._drop(length)

    def _starts_sentence(self) -> bool:
        spoken = self._tail.rstrip(" \t")
        return not spoken or spoken[-1] in _SENTENCE_ENDS

    # Blocks that are not speech

    def _hide(self, opening: re.Match[str], ends: re.Pattern[str], *, certain: bool) -> bool:
        """The block is a pause, and belongs to no sentence."""
        self._holds = False
        if certain or not self._has_words:
            self._leave_out(opening.end())
            self._hidden = ends
            return self._emit("\n", len(opening.group()))
        begin = max(opening.end(), self._searched.get(ends.pattern, 0) - self._base)
        limit = min(len(self._text), self._at + MAX_HELD_CHARS)
        if found := ends.search(self._text, begin, limit):
            self._leave_out(found.end())
            return self._emit("\n", found.end() - self._at)
        self._searched[ends.pattern] = self._base + max(opening.end(), limit - MAX_END_CHARS)
        self._holds = not self._ended and len(self._text) - self._at < MAX_HELD_CHARS
        return not self._holds and self._drop_opening(len(opening.group()))

    def _leave_out(self, end: int, *, extends: bool = False) -> None:
        """The text from here to ``end`` is not speech. ``extends``: nor is what was left out before it."""
        start, end = self._begins[self._at], self._ends[end - 1]
        self._left_out_chars += end - start
        if extends:
            start, _ = self._left_out.pop()
        self._left_out.append((start, end))

    def _skip_hidden(self, ends: re.Pattern[str]) -> bool:
        """Its end may be incomplete even where the text is flushed."""
        found = ends.search(self._text, self._at)
        end = found.end() if found else len(self._text) - MAX_END_CHARS
        if end > self._at:
            self._leave_out(end, extends=True)
            self._drop(end - self._at)
        if found:
            self._hidden = None
        return found is not None

    # Tags

    def _angle(self) -> bool:
        if tag := self._match(TAG, MAX_TAG_CHARS):
            return self._tag(tag)
        if comment := self._match(COMMENT, MAX_TAG_CHARS):
            return self._drop(len(comment.group()))
        if link := self._match(AUTOLINK, MAX_TAG_CHARS):
            address = link.group(1).removeprefix("mailto:")
            host = None if "://" not in address else host_of(address)
            return self._emit(host or address, len(link.group()))
        if words := self._match(PLACEHOLDER, MAX_TAG_CHARS):
            return self._emit_within(words, 1)
        return not self._must_wait(ANGLE_BEGUN, MAX_TAG_CHARS) and self._emit_char()

    def _tag(self, tag: re.Match[str]) -> bool:
        closing, name, attributes, empty = tag.groups()
        name, length = name.lower().rpartition(":")[2], len(tag.group())
        spoken = TAGS.get(name)
        if spoken is None:
            return self._unknown_tag(tag, is_word=not (closing or attributes or empty or ":" in tag[2]))
        if spoken:
            return self._emit(spoken if spoken == "\n" or not self._last.isspace() else "", length)
        if name == "sup" and not closing:
            if self._may_grow(tag):
                return False
            if self._after(tag.end()).isdigit() and self._last.isalnum():
                return self._emit("^", length)
        return self._drop(length) if closing else self._drop_opening(length)

    def _unknown_tag(self, tag: re.Match[str], *, is_word: bool) -> bool:
        """What stands for a word is spoken ("press <enter>"), other tags are not."""
        self._spaced = True
        return (
            self._emit_within(tag, 2) if is_word else self._drop(len(tag.group()))
        ) and self._space_follows()


def host_of(address: str) -> str | None:
    """The part of an address that people say."""
    found = _HOST.match(address)
    return found and found.group(1)
