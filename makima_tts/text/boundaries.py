"""What ends at a place in a text: a sentence, a clause, or nothing.

In: a text and a place in it. Out: a Boundary, judged by the text before and LOOK_AHEAD_CHARS after it. Does
not know: pieces, their lengths, how much text is still to come.

These are rules of thumb for the ten languages and the scripts beside them. The worst that a wrong one does
is a pause too many or too few, so none of them is a table of exceptions.
"""

import re
import unicodedata
from enum import IntEnum

# Past closing quotes and white space to the first letter of the next word.
LOOK_AHEAD_CHARS = 8


class Boundary(IntEnum):
    """The higher, the longer a reader pauses."""

    NONE = 0
    CLAUSE = 1
    SENTENCE = 2


_LINE_ENDS = frozenset("\n\u2029")
# Narrow marks end something only where white space follows ("3.14", "12:30"); wide ones need none.
_SENTENCE_MARKS = frozenset(".!?…।؟")
_CLAUSE_MARKS = frozenset(",;:—،؛")
_WIDE_SENTENCE_MARKS = frozenset("。！？")  # noqa: RUF001 - these are the wide ones
_WIDE_CLAUSE_MARKS = frozenset("，、；：")  # noqa: RUF001
_CLOSERS = "\"')]}»”」』）\N{RIGHT SINGLE QUOTATION MARK}"  # noqa: RUF001
_NOT_YET = frozenset(_CLOSERS) | _SENTENCE_MARKS | _WIDE_SENTENCE_MARKS
_ENDINGS = _NOT_YET | _CLAUSE_MARKS | _WIDE_CLAUSE_MARKS

_LAST_WORD = re.compile(r"[\w.]*\w\Z")
_LAST_WORD_CHARS = 16
_ABBREVIATIONS = frozenset(
    (
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "jr",
        "sr",
        "gen",
        "rev",
        "hon",
        "vs",
        "etc",
        "approx",
        "inc",
        "ltd",
    )
)
# U.S, a.m, z.B, p.ej: letters with full stops between them.
_DOTTED = re.compile(r"\w{1,2}(?:\.\w{1,2})+")


# The combining class of the marks that join Indic consonants.
_VIRAMA = 9
_ZERO_WIDTH_JOINER = "\u200d"
_HANGUL_VOWELS_AND_FINALS = ("\u1160", "\u11ff")
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


def may_end(char: str) -> bool:
    """Whether what follows this character has to be seen before the place after it can be judged."""
    return char in _ENDINGS


def boundary(text: str, end: int) -> Boundary:
    """What ends between ``text[end - 1]`` and ``text[end]``; both must exist."""
    last, following = text[end - 1], text[end]
    if last in _LINE_ENDS:
        return Boundary.SENTENCE
    if last not in _ENDINGS or following in _NOT_YET:
        return Boundary.NONE
    before_closers = text[:end].rstrip(_CLOSERS)
    mark, quoted = before_closers[-1:], len(before_closers) < end
    if mark in _WIDE_CLAUSE_MARKS:
        return Boundary.CLAUSE
    if mark in _WIDE_SENTENCE_MARKS:
        # What follows a quotation is often its “he said”.
        return Boundary.CLAUSE if quoted and not following.isspace() else Boundary.SENTENCE
    return _narrow_boundary(before_closers, text[end : end + LOOK_AHEAD_CHARS], quoted=quoted)


def _narrow_boundary(text: str, following: str, *, quoted: bool) -> Boundary:
    """``text`` ends with the mark; its closing quotes and brackets are left out."""
    mark = text[-1:]
    if not following[0].isspace():
        return Boundary.NONE
    if mark in _CLAUSE_MARKS:
        return Boundary.CLAUSE
    if mark not in _SENTENCE_MARKS or (mark == "." and _is_abbreviated(text)):
        return Boundary.NONE
    next_word = following.lstrip()
    if next_word[:1].isdigit() and mark == ".":  # "No. 5"
        return Boundary.NONE
    return Boundary.CLAUSE if _goes_on(mark, next_word, quoted=quoted) else Boundary.SENTENCE


def _goes_on(mark: str, next_word: str, *, quoted: bool) -> bool:
    """Whether the sentence does, after "Wait... what" or "'Why?' she asked"."""
    return next_word[:1].islower() and (quoted or mark in ".…")


def _is_abbreviated(text: str) -> bool:
    """Whether the full stop at its end belongs to a title, an initial, an ordinal or the like."""
    word = _LAST_WORD.search(text[-1 - _LAST_WORD_CHARS : -1])
    if word is None:
        return False
    found = word.group().lower()
    initial, ordinal = len(found) == 1 and found.isalpha(), len(found) <= 2 and found.isdigit()
    return initial or ordinal or found in _ABBREVIATIONS or _DOTTED.fullmatch(found) is not None


def ends_word(text: str, place: int) -> bool:
    """Whether what stands before ``place`` is whole words, to a tokenizer too: both sides must exist.

    Tokenizers join a mark to the letters after it, and a line end to the mark before it. Scripts without
    spaces are cut at their marks alone: they read a word, not its characters.
    """
    before, after = text[place - 1], text[place]
    if before.isspace():
        return False
    return (after.isspace() and after not in "\r\n") or (
        before.isalnum() and after in _WIDE_CLAUSE_MARKS | _WIDE_SENTENCE_MARKS
    )


def is_within_character(text: str, place: int) -> bool:
    """Whether a cut would tear what a reader sees as one: marks, conjuncts, joined emoji, Hangul, CR LF.

    The rules of Unicode's grapheme clusters that matter to speech, and to emoji in what is shown.
    """
    before, after = text[place - 1], text[place]
    return (
        unicodedata.category(after)[0] == "M"
        or unicodedata.combining(before) == _VIRAMA
        or _ZERO_WIDTH_JOINER in (before, after)
        or _HANGUL_VOWELS_AND_FINALS[0] <= after <= _HANGUL_VOWELS_AND_FINALS[1]
        or _SKIN_TONES[0] <= after <= _SKIN_TONES[1]
        or before + after == "\r\n"
    )
