"""Words of a text: what is one, and where it stands in the text as received."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from makima_tts.text import Segmenter, clean, pieces_of
from makima_tts.text.words import TextSpan, words_in

MIXED = (
    "Hello| |**|_|[a b](https://x.org/y)|<b>|</b>|&amp;|don't|3.14|今天|きゃ|か\u3099|。|. |, |\n|`x y`|👍|"
)
MIXED += "```\ncode\n```\n|https://a.org/b|e\u0301|हिन्दी|—|한국어|\x07"
SOUP = MIXED.split("|")
TEXTS = st.lists(st.sampled_from(SOUP), max_size=25).map("".join)


def words_of(text: str) -> list[str]:
    return [text[slice(*word)] for piece in pieces_of(text) for word in piece.words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, “world”! (Yes.)", "Hello|world|Yes"),
        ("don't well-known 3.14 a@b.org 1,250 U.S.", "don't|well-known|3.14|a@b.org|1,250|U.S"),
        ("long—very long… indeed & so on - 5 €", "long|very|long|indeed|so|on|5"),
        ("See **Hello**, un**believ**able [the docs](https://x.y).", "See|Hello|un**believ**able|the|docs"),
        (
            "<b>Bold</b> AT&amp;T's https://www.example.com/a, ok",
            "Bold|AT&amp;T's|https://www.example.com/a|ok",
        ),
        ("Then:\n```\ncode here\n```\nafter 👍 it", "Then|after|it"),
        ("今天很好，Hello世界。第3章", "今|天|很|好|Hello|世|界|第|3|章"),  # noqa: RUF001
        ("きゃっとコーヒー、か\u3099", "きゃ|っ|と|コー|ヒー|か\u3099"),
        ("한국어 문장, हिन्दी है।", "한국어|문장|हिन्दी|है"),
        ("... — & 👍", ""),
    ],
)
def test_words_are_given_as_they_were_sent_without_the_marks_around_them(text: str, words: str) -> None:
    assert words_of(text) == words.split("|") * bool(words)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(TEXTS)
def test_words_lie_in_order_in_their_piece_and_in_the_piece_as_spoken_are_as_many(text: str) -> None:
    reached = 0
    for piece in pieces_of(text):
        assert len(piece.words) == len(words_in(piece.text))
        for start, end in piece.words:
            assert max(reached, piece.start) <= start < end <= piece.end
            reached = end


@settings(derandomize=True, max_examples=200, deadline=None)
@given(TEXTS)
def test_every_letter_that_is_spoken_is_in_one_word(text: str) -> None:
    spoken = "".join(piece.text for piece in pieces_of(text))
    in_words = "".join(spoken[slice(*word)] for word in words_in(spoken))
    assert [char for char in in_words if char.isalnum()] == [char for char in spoken if char.isalnum()]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_partial_text_has_the_first_words_of_the_piece(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    segmenter = Segmenter()
    pieces = []
    partial: list[TextSpan] = []
    for begin, end in pairwise(edges):
        fresh = segmenter.feed(text[begin:end])
        pieces += fresh
        words = segmenter.partial_spoken.words()
        assert (fresh[0].words if fresh else words)[: len(partial)] == partial
        assert len(words) == len(words_in(clean(segmenter.partial_text)))
        partial = words
    pieces += segmenter.flush()
    assert pieces == pieces_of(text)


def test_a_hostile_text_is_split_in_linear_time() -> None:
    for unit in ("!", "a!", "\u0301", "a\u0301", "ー", "-", "a-"):
        assert len(words_in(unit * 20_000)) <= 20_000
