# ruff: noqa: RUF001 - texts in many scripts
"""A line break within a sentence is a space; where something ends or begins, it is a pause."""

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.text import pieces_of
from tests.text.cleaned import spoken

WORDS = st.lists(
    st.text(st.characters(categories=["Ll"], max_codepoint=0x17F), min_size=1, max_size=9), min_size=2
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(words=WORDS, line_end=st.sampled_from(["\n", "\r\n", " \n", "\n  ", "\r\n\t", "\r", "\u2028"]))
def test_prose_is_spoken_alike_however_it_is_wrapped(words: list[str], line_end: str) -> None:
    assert spoken("So " + line_end.join(words) + ".") == "So " + " ".join(words) + "."
    wrapped = pieces_of("So " + line_end.join(words) + ".")
    assert [piece.text for piece in wrapped] == [
        piece.text for piece in pieces_of("So " + " ".join(words) + ".")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We flew to\nParis and\nBerlin.", "We flew to Paris and Berlin."),
        ("  An indented\n  paragraph goes\n  on.", "An indented paragraph goes on."),
        ("The **bold\nwords** go on\n_here_ and\n`there`.", "The bold words go on here and there."),
        ("> A quotation\n> goes on\n>> deeper\nout", "A quotation goes on\ndeeper\nout"),
        ("- one that\n  goes on\n- two", "one that goes on\ntwo"),
        ("1. one that\ngoes on\n2. two", "1. one that goes on\n2. two"),
        ("an exam-\nple, a Haupt-\r\n  und Nebensatz", "an example, a Haupt- und Nebensatz"),
        ("Anglo-\nSaxon, pages 12-\n15", "Anglo-Saxon, pages 12-15"),
        ("an exam\u00ad\nple and exam\u00adple", "an example and example"),
        ("今天天气\n很好，我们\n去公园。", "今天天气很好，我们去公园。"),
        ("彼は「はい」\nと言った。", "彼は「はい」と言った。"),
        ("오늘은 날씨가\n좋습니다.", "오늘은 날씨가 좋습니다."),
        ("He said “no.”\n“Yes,” she said.", "He said “no.” “Yes,” she said."),
    ],
)
def test_a_single_line_break_within_a_sentence_is_a_space(text: str, expected: str) -> None:
    assert spoken(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "# Title\nText",
        "Title\n=====\nText",
        "**Title**\nText",
        "Shopping:\nmilk and bread",
        "Roses are red\n\nviolets are blue",
        "- one\n- two\nThat is all",
        "Buy\n- milk\n* bread\n• tea\n+ jam\n– salt",
        "Steps\n1. go\n2) come\na) so\niv) on",
        "1\ufe0f\u20e3 go\n2\ufe0f\u20e3 come",
        "**Name:** Ann\n**Age**: five",
        "Stop!\nwait",
        "two spaces  \nand a backslash\\\nbreak",
        "a\n| b |\nc",
        "so\n✓ done\n→ next",
        "plans\n\U0001f389 party\n\U0001f355 pizza",
        "so\n\n```\ncode\n```\nand so on",
    ],
)
def test_the_break_stays_where_something_begins_or_ends(text: str) -> None:
    kept = spoken(text)
    assert [line.strip() for line in kept.split("\n") if line.strip()] == [
        line.replace("**", "")
        .replace("\ufe0f\u20e3", "")
        .lstrip("#-*•✓→| \U0001f389\U0001f355")
        .rstrip("*| \\")
        for line in text.split("\n")
        if line.strip("=`| \n") not in ("", "code")
    ]
