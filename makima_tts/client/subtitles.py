"""Subtitles of an utterance, as SRT or WebVTT.

In: the text as sent, and its words with their times. Out: a document. Does not know: files, sockets.

A cue ends with a sentence or a line of the text, and holds at most two lines of 42 characters, which is the
usual limit. Punctuation beside words is kept, marks of markdown are not. WebVTT has the time of every word
too, with which players highlight it (WebVTT, section 4.2.2, "cue timestamps").
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from makima_tts.protocol import TimedWord

_MAX_CUE_CHARS = 84
_MARKDOWN = re.compile(r"[*_#`~|]+")
_AFTER_WORD = re.compile(r"[^\w\s()\[\]{}<>/\\]*\)?")
# Quotes, brackets, signs of currencies.
_OPENING = r"(\"'\u2018\u201c\u00ab\u201e\u00bf\u00a1\u300a\u300c\u300e$\u20ac\u00a3\u00a5-"
_BEFORE_WORD = re.compile(f"(?<![{_OPENING}])[{_OPENING}]*\\Z")
_ENDS_CUE = re.compile(r"[.!?\n\u2026\u3002\uff01\uff1f]")


class _CueWord(NamedTuple):
    """``before`` and ``after``: punctuation, and the space to the next word."""

    word: TimedWord
    before: str
    after: str
    ends_cue: bool

    @property
    def text(self) -> str:
        return self.before + self.word.word + self.after


def srt(text: str, words: Sequence[TimedWord]) -> str:
    """SubRip. ``words`` are those of ``text``, in order."""
    cues = enumerate(_cues(_cue_words(text, words)), 1)
    return "\n".join(f"{number}\n{_span(cue, ',')}\n{_text(cue)}\n" for number, cue in cues)


def vtt(text: str, words: Sequence[TimedWord]) -> str:
    """WebVTT. ``words`` are those of ``text``, in order."""
    cues = _cues(_cue_words(text, words))
    return "WEBVTT\n" + "".join(f"\n{_span(cue, '.')}\n{_karaoke(cue)}\n" for cue in cues)


def _cue_words(text: str, words: Sequence[TimedWord]) -> Iterator[_CueWord]:
    ends = [word.offset + word.length for word in words]
    begins = [*(word.offset for word in words[1:]), len(text)]
    if not words:
        return
    before = _found(_BEFORE_WORD, _plain(text[: words[0].offset]))
    for word, end, begin in zip(words, ends, begins, strict=True):
        gap = _plain(text[end:begin])
        mark = _found(_AFTER_WORD, gap)
        rest = gap[len(mark) :]
        space = " " if re.search(r"\s", rest) else ""
        yield _CueWord(word, before, mark + space, _ENDS_CUE.search(gap) is not None)
        before = _found(_BEFORE_WORD, rest)


def _plain(gap: str) -> str:
    return _MARKDOWN.sub("", gap)


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group() if match else ""


def _cues(words: Iterator[_CueWord]) -> Iterator[list[_CueWord]]:
    cue: list[_CueWord] = []
    for word in words:
        if cue and sum(len(each.text) for each in cue) + len(word.text.rstrip()) > _MAX_CUE_CHARS:
            yield cue
            cue = []
        cue.append(word)
        if word.ends_cue:
            yield cue
            cue = []
    if cue:
        yield cue


def _span(cue: Sequence[_CueWord], decimal_mark: str) -> str:
    begin, end = cue[0].word.start_ms, cue[-1].word.end_ms
    return f"{_time(begin, decimal_mark)} --> {_time(max(end, begin + 1), decimal_mark)}"


def _time(at_ms: int, decimal_mark: str) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{ms:03}"


def _text(cue: Sequence[_CueWord]) -> str:
    return "".join(word.text for word in cue).strip()


def _karaoke(cue: Sequence[_CueWord]) -> str:
    """Cue timestamps must rise, and lie within the cue: words of equal times share one."""
    parts, last_ms = [], cue[0].word.start_ms
    for each in cue:
        if each.word.start_ms > last_ms:
            last_ms = each.word.start_ms
            parts.append(f"<{_time(last_ms, '.')}>")
        parts.append(escape(each.text, quote=False))
    return "".join(parts).strip()
