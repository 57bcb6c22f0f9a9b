"""Subtitles: every word once, in cues that are short, in order and valid."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from makima_tts.client.subtitles import srt, vtt
from makima_tts.protocol import TimedWord

TEXT = (
    'He said: "Well, **this** is (not) 3.14." Then $5 more?\n- An item\n'
    "And a sentence that goes on for so long that no two lines of a subtitle have room for all of it, "
    "which is why it is cut.\n\n私は猫です。犬もいます"
)
WORD = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?|[\u3040-\u9fff]")
CUE = re.compile(r"(\d\d):(\d\d):(\d\d)[,.](\d{3}) --> (\d\d):(\d\d):(\d\d)[,.](\d{3})\n(.*)")
Write = Callable[[str, Sequence[TimedWord]], str]


def timed(text: str, every_ms: int = 300) -> list[TimedWord]:
    return [
        TimedWord.of(
            text, *word.span(), start_ms=i * every_ms, end_ms=i * every_ms + every_ms - 50, estimated=False
        )
        for i, word in enumerate(WORD.finditer(text))
    ]


def cues(document: str) -> list[tuple[int, int, str]]:
    """(start in ms, end in ms, text) of each cue."""

    def ms(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
        return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)

    return [(ms(*cue[:4]), ms(*cue[4:8]), cue[8]) for cue in CUE.findall(document)]


def untimed(cue: str) -> str:
    return re.sub(r"<[^>]*>", "", cue)


def test_srt_is_numbered_and_shows_each_sentence_and_line_with_its_punctuation() -> None:
    document = srt(TEXT, timed(TEXT))
    assert re.findall(r"^(\d+)$", document, re.MULTILINE) == [*"1234567"]
    assert [text for _, _, text in cues(document)] == [
        'He said: "Well, this is (not) 3.14."',
        "Then $5 more?",
        "An item",
        "And a sentence that goes on for so long that no two lines of a subtitle have room",
        "for all of it, which is why it is cut.",
        "私は猫です。",
        "犬もいます",
    ]


@pytest.mark.parametrize("write", [srt, vtt])
@pytest.mark.parametrize("every_ms", [50, 300, 3_600_000])
def test_cues_rise_and_hold_each_word_once(write: Write, every_ms: int) -> None:
    words = timed(TEXT, every_ms)
    shown = cues(write(TEXT, words))
    assert all(start < end for start, end, _ in shown)
    assert all(one[0] < other[0] for one, other in pairwise(shown))
    text = " ".join(untimed(cue) for *_, cue in shown)
    assert [word.group() for word in WORD.finditer(text)] == [word.word for word in words]
    assert all(len(untimed(cue)) <= 84 for *_, cue in shown)


def test_webvtt_has_the_time_of_each_word_within_its_cue() -> None:
    document = vtt("One, two.", timed("One, two."))
    assert document == "WEBVTT\n\n00:00:00.000 --> 00:00:00.550\nOne, <00:00:00.300>two.\n"


def test_text_is_no_markup_of_webvtt() -> None:
    text = "a & <b> --> c"
    assert untimed(cues(vtt(text, timed(text)))[0][2]) == "a b c"


def test_a_text_without_words_has_no_cues() -> None:
    assert (srt("...", []), vtt("...", [])) == ("", "WEBVTT\n")
