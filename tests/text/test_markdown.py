# ruff: noqa: RUF001 - texts in many scripts; what is read beside what it is read as
"""Markdown as spoken: all of its words, and none of its marks."""

import time

import pytest
from hypothesis import example, given, settings, strategies as st

from makima_tts.text import Segmenter, is_speakable, pieces_of
from tests.text.cleaned import pieces_in_parts, split, spoken_in_parts

FRAGMENTS = [
    *(
        "**",
        "*",
        "_",
        "__",
        "~~",
        "***",
        "`",
        "``",
        "```",
        "~~~",
        "```py\n",
        "\n```\n",
        "# ",
        "## ",
        "- ",
        "* ",
    ),
    *(
        "> ",
        "|",
        "| ",
        "|---|",
        "---\n",
        "===\n",
        "1. ",
        "2) ",
        "- [x] ",
        "[",
        "](",
        ")",
        "[a](b)",
        "![c](d)",
    ),
    *(
        "[^1]",
        "[^1]: ",
        "https://www.a.org/b_c?d=1",
        "www.a.org",
        "http",
        "h",
        "w",
        "://",
        "me@a.org",
        "<",
        ">",
    ),
    *("<b>", "</b>", "<br>", "<sup>", "<!--", "-->", "<a href='x'>", "&amp;", "&", "&#42;", ";", "\\", "\\*"),
    *(
        "\U0001f600",
        "\u2764\ufe0f",
        "\u2764",
        "\u200d",
        "\ufe0f",
        "1\ufe0f\u20e3",
        "word",
        "Word. ",
        "5",
        " ",
    ),
    *(
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "。",
        "重要",
        "，",
        "é",
        "\u0301",
        '"',
        "(",
        ".",
        ", ",
        "x" * 40,
        "\x00",
        "    ",
    ),
    *(
        "$",
        "$5 ",
        "$x^2$",
        "\\(",
        "\\)",
        "[pause:1s]",
        "(laughs)",
        "*sighs*",
        "<break/>",
        "<foo>",
        "<foo a='b'>",
    ),
    *(
        "<sub alias='a'>",
        "</sub>",
        "-\n",
        "a-\n",
        "und",
        "  \n",
        "✓ ",
        "a) ",
        "**N:** a",
        "<think>",
        "</think>",
    ),
]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=30).map("".join)

law = settings(derandomize=True, max_examples=100, deadline=None)


@law
@given(text=TEXTS, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(text="- " * 300 + "x", cuts=[])
@example(text="[" + "a" * 400 + "](b)", cuts=[])
@example(text="[a](" + "b" * 2100 + ")", cuts=[])
@example(text="`" * 100 + "\nx\n" + "`" * 40 + "\ny", cuts=[])
@example(text="https://a.org/" + "b" * 2100, cuts=[])
@example(text="<a " + "b=c " * 100 + ">", cuts=[])
@example(text="<!--@a> is --> so.", cuts=[])
@example(text='[a]( b  "c d" ) [e]( "f g") [h](<i j> \'k\')', cuts=[])
@example(text="| a |" + " " * 31 + "b | c" + " " * 32 + "| d", cuts=[])
def test_any_split_gives_the_same_text_as_spoken(text: str, cuts: list[int]) -> None:
    whole = spoken_in_parts(text)
    assert spoken_in_parts(*split(text, cuts)) == whole
    assert spoken_in_parts(*text) == whole
    assert pieces_in_parts(*text) == pieces_of(text)


@law
@given(TEXTS)
def test_every_position_between_spoken_characters_is_one_in_the_text_as_sent(text: str) -> None:
    spoken, starts = spoken_in_parts(text)
    assert len(spoken) == len(starts)
    assert starts == sorted(starts)
    assert not starts or (starts[0] >= 0 and starts[-1] < len(text))


@pytest.mark.parametrize("text", ["[a](" + "\t" * 1900 + "x", "[a](<b>" + " " * 1900 + "x", "[" * 2000])
def test_no_text_takes_seconds_to_clean(text: str) -> None:
    """A pattern that backtracks over runs of spaces takes seconds for these, and blocks all sessions."""
    began_s = time.process_time()
    spoken_in_parts(*text)
    assert time.process_time() - began_s < 3


@law
@given(TEXTS)
def test_pieces_tile_the_text(text: str) -> None:
    pieces = pieces_of(text)
    assert all(is_speakable(piece.text) for piece in pieces)
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces)][: len(pieces)]


@law
@given(
    st.text(st.characters(categories=["L", "N"], include_characters=" .,?:;!'\"()-+=/%$#@{}^\n"), max_size=60)
)
def test_text_without_marks_is_spoken_unchanged(text: str) -> None:
    marked = text.replace("\n", " ").replace("www.", "").replace("://", "")
    assert spoken_in_parts("so " + marked)[0] == "so " + marked


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Note.** Next, *this* and __that__ and _it_.", "Note. Next, this and that and it."),
        ("***Both*** and **b *i* b** and **b *i***", "Both and b i b and b i"),
        ('(*hi*) "**yo**" **3 steps** ~~gone~~', '(hi) "yo" 3 steps gone'),
        ("これは**重要**です。한국어 **중요**합니다", "これは重要です。한국어 중요합니다"),
        ("„*So*“, ‚*so*‘, «*так*», « *si* » und ¡*hola*!", "„So“, ‚so‘, «так», « si » und ¡hola!"),
        ("l’**arte**, ✅**Done** 1\ufe0f\u20e3**One** **~5 min** ~~**no**~~", "l’arte, Done 1 One ~5 min no"),
        ("|**Name**|*Age*|", "Name, Age"),
        ("# Title\nText\n## Sub\nMore", "Title\nText\nSub\nMore"),
        ("- one\n* two\n• three\n  - four\n- [x] done", "one\ntwo\nthree\nfour\ndone"),
        ("1. one\n2) two", "1. one\n2) two"),
        ("> quoted\n> goes on\n> > twice", "quoted goes on\ntwice"),
        ("above\n---\nbelow\n***\nHead\n====\nend", "above\n\nbelow\n\nHead\n\nend"),
        ("| Name | Age |\n|---|:-:|\n| Ann | 5 |", "Name, Age\n\nAnn, 5"),
        ("Call `foo_bar(*a)` or ``b`c`` now", "Call foo_bar(*a) or bc now"),
        ("So:\n```py\nx = '**'\n```\nDone.", "So:\n\nDone."),
        ("So: ```py\nx = 1\n```\nDone ```x``` now.", "So: \nDone now."),
        ("~~~py\nx\n```\n~~~\nDone.", "\nDone."),
        ("One.\n~~~\nTwo.\n ~ ~ ~\nThree.\n~~~ The end ~~~", "One.\n\nTwo.\n\nThree.\n~~~ The end ~~~"),
        ("Write ```` or ``` around it.\nThen it is code.", "Write or around it.\nThen it is code."),
        ("- ```py title=a\nx = 1\n```\nDone.", "\nDone."),
        ('See [the **docs**](https://x.org/a_(b) "t") now', "See the docs now"),
        ("![a cat](c.png) and [![alt](i)](u) and [text][ref]", "a cat and alt and text"),
        ("A word[^1], a claim[2](https://x.org).\n[^1]: A note", "A word, a claim.\nA note"),
        (
            "Visit https://www.example.com/a/b?x=1. Then www.foo.org, ok?",
            "Visit example.com. Then foo.org, ok?",
        ),
        ("请看https://example.com/a了解。", "请看example.com了解。"),
        (
            "Write to <me@x.org> or me_too@x.org or <https://a.b/c>",
            "Write to me@x.org or me_too@x.org or a.b",
        ),
        (
            "a<br>b, <b>bold</b>, <a href='x'>link</a>, 10<sup>6</sup> H<sub>2</sub>O",
            "a\nb, bold, link, 10^6 H2O",
        ),
        ("<details><summary>One</summary>two</details><dl><dt>A<dd>B", "\n\nOne\ntwo\n\n\nA\nB"),
        ("A &amp; B &lt; C&nbsp;D <!-- not this --> end", "A & B < C\xa0D end"),
        ("\\*as it is\\* and \\(x) or \\_", "*as it is* and (x) or _"),
        (
            "Great! \U0001f600 Next \U0001f44d\U0001f3fd 1\ufe0f\u20e3 go\u2764\ufe0fnow",
            "Great! Next 1 go now",
        ),
        ("run \U0001f3c3\u200d\u2640\ufe0f and \U0001f1e9\U0001f1ea end", "run and end"),
    ],
)
def test_marks_are_removed(text: str, spoken: str) -> None:
    assert spoken_in_parts(text)[0] == spoken


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 and 2*3*4 and 2 ** 3 and 5*x and a*b*c",
        "snake_case, a_b and me_too@x.org",
        "C#, F# and #1 of #tags",
        "1) first and 2. second, -5 and - 6",
        "$5, 5 €, 100 %, ~5 and 3~4",
        "x < y, <3, x<y and z>q, a -> b",
        "f(x) [sic] a[0] [1] [1, 2] [1][2] a[i](x)",
        "AT&T, R&D, &nope; and Q&A",
        "it's 'fine' \"so\" “be” ‘it’ «là» 「はい」",
        "*.py, **/*.py, p***d and ****",
        "the \"*\", the '_', the (**), and *, **, and //",
        "C:\\Users\\me, \\frac{1}{2} and x^2_i",
        "{slow 0.5} {stall} {nan} {endless}",
        "a | b, C♯, ✓, →, ©, ♀ and ½",
        "how, what, www, http and https",
        "क्षि नमस्ते، مرحبا",
    ],
)
def test_symbols_that_are_not_marks_stay(text: str) -> None:
    assert spoken_in_parts(text)[0] == text


def test_markdown_is_spoken_unchanged_with_plain_cleaning() -> None:
    text = "**Note** [this](https://x.org) `now` \U0001f600"
    assert [piece.text for piece in pieces_of(text, "plain")] == [text]


def test_a_sentence_includes_the_marks_around_it() -> None:
    text = "**That was the note.** *Next* comes the rest."
    first, second = pieces_of(text)
    assert (first.text, second.text) == ("That was the note.", "Next comes the rest.")
    assert (text[: first.end], text[second.start :]) == ("**That was the note.**", " *Next* comes the rest.")


def test_a_flush_within_marks_speaks_the_text_so_far_but_no_code() -> None:
    segmenter = Segmenter()
    assert [piece.text for piece in segmenter.feed("See [the do") + segmenter.flush()] == ["See [the do"]
    segmenter.feed(" and\n```\ncode ")
    assert [piece.text for piece in segmenter.flush()] == ["and"]
    assert segmenter.feed("more code\n") + segmenter.flush() == []
    assert [piece.text for piece in segmenter.feed("```\nSpoken.") + segmenter.flush()] == ["Spoken."]
