r"""The marks of markdown and their kin: how each looks, and when enough has arrived to tell.

In: nothing. Out: patterns, and short questions about characters. Does not know: what was read before.

A pattern is asked at a place of a text that may still grow. Where more text could make it match, or match
something else, its ``…_BEGUN`` matches up to the end (``\Z``), and the reader waits. Each is bounded by a
``MAX_…_CHARS``, so that nobody waits for ever. Why each rule is as it is: docs/text.md.
"""

import html
import re

from makima_tts.text.cleaning import CONTROLS

MAX_RUN_CHARS = 32
MAX_LINE_MARK_CHARS = 200
MAX_LINK_TEXT_CHARS = 300
MAX_TARGET_CHARS = 2000
MAX_TAG_CHARS = 300
MAX_ENTITY_CHARS = 40

LINE_ENDS = "\n\u2029"

# Symbols that are pictures by themselves; others of the first plane are pictures only before U+FE0F.
_PICTURES = (
    "\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615"
    "\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5"
    "\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2764\u27b0\u27bf\u2b1b\u2b1c\u2b50"
    "\u2b55"
)
_PERHAPS_PICTURES = "\u2300-\u2bff"
# Which variant of a symbol is meant, the frame of a key, letters in the names of flags: nothing to say.
_VARIANTS = "\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f"
PICTURE = re.compile(f"[{_PICTURES}{_VARIANTS}]|[{_PERHAPS_PICTURES}]\ufe0f")
PICTURE_BEGUN = re.compile(rf"[{_PERHAPS_PICTURES}]\Z")
JOINED_PICTURE = re.compile(f"\u200d[{_PERHAPS_PICTURES}]?")
JOINED_PICTURE_BEGUN = re.compile("\u200d\\Z")

_ADDRESS = r"(?:https?://|www\.)"
ADDRESS_BEGUN = re.compile(r"(?i:h(?:t(?:t(?:p(?:s?(?::/?)?)?)?)?)?|w{1,3})\Z")
ADDRESS = re.compile(rf"(?i:{_ADDRESS})[-A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%]*")
_HOST = re.compile(r"(?i:https?://(?:[^/?#@]*@)?(?:www\.)?|www\.)([A-Za-z0-9][^/?#:]*)")

_SPECIAL = (
    re.escape(CONTROLS) + r"\\`*_~\[\]!<&|\u200d" + LINE_ENDS + _PICTURES + _PERHAPS_PICTURES + _VARIANTS
)
_NO_ADDRESS = rf"(?<=[A-Za-z0-9])[HhWw]|(?!(?i:{_ADDRESS})|{ADDRESS_BEGUN.pattern})[HhWw]"
# Runs of text that mean nothing but what they say.
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

# As deep as a picture in a link.
_BRACKETED = rf"(?:[^\[\]{LINE_ENDS}]++|\[[^\[\]{LINE_ENDS}]*+\])*+"
BRACKETED = re.compile(rf"\[({_BRACKETED})\]")
BRACKETED_BEGUN = re.compile(rf"\[{_BRACKETED}(?:\[[^\[\]{LINE_ENDS}]*+)?\Z")
FOOTNOTE = re.compile(r"\^\S+")
_PLACE = r"(?:[^\s()<>]|\([^\s()]*\))*+"
# No run of spaces is read twice: thousands of them would hold up everybody.
TARGET = re.compile(
    rf"\([ \t]*+(?:<[^<>\n]*>|{_PLACE})[ \t]*+(?:(?<=[ \t])(?:\"[^\"\n]*\"|'[^'\n]*'))?[ \t]*+\)"
    r"|\[[^\[\]\n]*\]"
)
TARGET_BEGUN = re.compile(
    rf"\([ \t]*+(?:<[^<>\n]*>?)?{_PLACE}(?:\([^\s()]*)?[ \t]*+(?:(?<=[ \t])[\"'][^\n]*)?\Z|\[[^\[\]\n]*\Z"
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
_FIRST_PICTURE = "\u2300"
_BEFORE_OPENING = frozenset("([{\"'“‘’«„‚‹¿¡—–:;,.!?/>*_~`-…|→\u20e3")  # noqa: RUF001
_QUOTES = "\"'"
_AFTER_OPENING = frozenset("([{\"'“‘«„‚‹¿¡*_~`$€£¥&\\<!")  # noqa: RUF001
# "**/*.py", "**=", and marks that are named: "*, **, and //", "(**)".
_NEVER_OPENED = frozenset("/=,;)]}”")
_ADDRESS_TRIMMINGS = ".,;:!?*_~'\""


def is_word(char: str) -> bool:
    """Whether it would run into a letter beside it: scripts without spaces do not count."""
    return char.isalnum() and char < _FIRST_WIDE


def opens(mark: str, width: int, before: str, after: str) -> bool:
    """Whether a run of ``*``, ``_`` or ``~`` begins an emphasis, rather than being a sign of its own."""
    if width > 3 or (mark == "~" and width != 2):
        return False
    if not (before.isspace() or before in _BEFORE_OPENING or before >= _FIRST_PICTURE) or before == mark:
        return False
    if before == after and before in _QUOTES:
        return False
    if width == 1 or mark == "_":
        return after.isalpha() or after in _AFTER_OPENING or after >= "\u2e80"
    return not after.isspace() and after not in _NEVER_OPENED


def may_close(mark: str, before: str, after: str) -> bool:
    """Whether a run could end an emphasis that is open."""
    if before.isspace() or (before.isdigit() and after.isdigit()):
        return False
    return mark != "_" or not is_word(after)


def trimmed_address(address: str) -> str:
    """Without the marks at its end that belong to the sentence around it."""
    while address:
        last = address[-1]
        unpaired = {")": "(", "]": "["}.get(last)
        if last not in _ADDRESS_TRIMMINGS and not (
            unpaired and address.count(last) > address.count(unpaired)
        ):
            break
        address = address[:-1]
    return address


def host_of(address: str) -> str | None:
    """What of an address a person would say."""
    found = _HOST.match(address)
    return found and found.group(1)


def entity(text: str, place: int) -> tuple[str, int] | None:
    """The character that is meant, and how long its name is."""
    found = _ENTITY.match(text, place)
    meant = html.unescape(found.group()) if found else ""
    if found is None or meant == found.group():
        return None
    return meant, len(found.group())


def fence_end(mark: str, width: int) -> re.Pattern[str]:
    """The line that ends a fenced block."""
    return re.compile(rf"[ \t>]*{mark}{{{width},}}[ \t]*{_TO_LINE_END}")
