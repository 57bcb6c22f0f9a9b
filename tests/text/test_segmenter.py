# ruff: noqa: RUF001 - texts in many scripts
"""The laws of segmenting a growing text, and where it is cut."""

import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st

from makima_tts.text import Piece, Segmenter, TextCleaning, clean, is_speakable
from makima_tts.text.segmenter import (
    FIRST_CLAUSE_CHARS,
    HARD_LIMIT_CHARS,
    LOOK_AHEAD_CHARS,
    SHORTEST_FORCED_CHARS,
    SOFT_LIMIT_CHARS,
)

FRAGMENTS = [
    *(
        "Dr. Smith ",
        "e.g. ",
        "U.S. ",
        "3.14",
        "12:30 p.m. ",
        "No. 5",
        "Wait... ",
        "what?! ",
        "OK. ",
        "1. ",
        ".    ",
    ),
    *(
        '"Why?" she asked. ',
        "“Stop!” ",
        "(Really.) ",
        "well, ",
        "so; ",
        "word ",
        "Word ",
        "\r\n",
        "\n",
        "\u2029",
    ),
    *("我们去公园吧！", "「はい。」", "、", "。", "नमस्ते। ", "مرحبا، ", "؟ ", "cafe\u0301", "\u0301"),
    *(
        "\u1100\u1161\u11a8",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f44b\U0001f3fd",
        "\u202eabc\u202c",
    ),
    *("\u200b", "\x00", "a" * 299, " " * 60, "!" * 150, "ab " * 90),
]
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=40).map("".join)

law = settings(derandomize=True, max_examples=150, deadline=None)


def pieces_of(*parts: str, cleaning: TextCleaning = "plain") -> list[Piece]:
    """The laws hold for a text as sent, so cleaning is plain; test_markdown has those of markdown."""
    segmenter = Segmenter(cleaning)
    return [piece for part in parts for piece in segmenter.feed(part)] + segmenter.flush()


def texts_of(*parts: str) -> list[str]:
    return [piece.text for piece in pieces_of(*parts)]


def spoken(text: str) -> str:
    """Its letters and numbers, decomposed: composition depends on their neighbours."""
    return "".join(char for char in unicodedata.normalize("NFD", clean(text)) if char.isalnum())


@law
@given(text=TEXTS, cuts=st.lists(st.integers(0, 2000), max_size=20))
@example(text="Here it ends.    or not. Now", cuts=[])
@example(text="a" * 5000, cuts=[1, 299, 300, 301, 4999])
def test_any_split_of_a_text_gives_the_same_pieces(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole = pieces_of(text)
    assert pieces_of(*(text[start:end] for start, end in pairwise(edges))) == whole
    assert pieces_of(*text) == whole


@law
@given(TEXTS)
@example("!" * 5000)
@example("e" + "\u0301" * 1000)
def test_pieces_tile_the_text_and_lose_nothing_speakable(text: str) -> None:
    pieces = pieces_of(text)
    ends = [piece.end for piece in pieces]
    assert [piece.index for piece in pieces] == list(range(len(pieces)))
    assert [piece.start for piece in pieces] == [0, *ends][: len(pieces)]
    assert not is_speakable(text[[0, *ends][-1] :])
    assert "".join(spoken(piece.text) for piece in pieces) == spoken(text)


@law
@given(TEXTS)
@example("a" * 5000)
@example("!" * 1000 + "a")
def test_a_piece_is_its_cleaned_text_and_never_longer_than_the_hard_limit(text: str) -> None:
    for piece in pieces_of(text):
        assert is_speakable(piece.text)
        assert len(piece.text) <= HARD_LIMIT_CHARS
        assert clean(text[piece.start : piece.end]).endswith(piece.text)


@law
@given(before=TEXTS, after=TEXTS)
def test_a_flush_adds_a_cut_and_changes_none_before_it(before: str, after: str) -> None:
    segmenter = Segmenter("plain")
    flushed = segmenter.feed(before) + segmenter.flush()
    assert flushed == pieces_of(before)
    rest = segmenter.feed(after) + segmenter.flush()
    assert "".join(spoken(piece.text) for piece in rest) == spoken(after)
    assert all(later.start == earlier.end for earlier, later in pairwise(flushed + rest))


@law
@given(TEXTS)
def test_no_speech_is_buffered_beyond_the_hard_limit_and_the_look_ahead(text: str) -> None:
    segmenter, cut = Segmenter("plain"), 0
    for fed, char in enumerate(text, 1):
        for piece in segmenter.feed(char):
            cut = piece.end
        assert not is_speakable(text[cut : max(cut, fed - HARD_LIMIT_CHARS - LOOK_AHEAD_CHARS)])


@law
@given(text=TEXTS, cuts=st.lists(st.integers(0, 2000), max_size=20))
@example(text="a " * 500, cuts=list(range(1000)))
@example(text="Well, we go. " * 9, cuts=list(range(1, 120)))
@example(text="\u2000a b", cuts=list(range(4)))
def test_partial_text_only_grows_until_it_is_the_piece(text: str, cuts: list[int]) -> None:
    segmenter, partial, pieces = Segmenter(), "", []
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(edges):
        fresh = segmenter.feed(text[start:end])
        pieces += fresh
        if fresh:
            assert fresh[0].text.startswith(partial)
        assert segmenter.partial_text.startswith("" if fresh else partial)
        partial = segmenter.partial_text
    rest = segmenter.flush()
    assert not partial or rest[0].text.startswith(partial)
    assert pieces + rest == pieces_of(text, cleaning="markdown")


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("The lamps are", "The lamps"),
        ("The lamps are ", "The lamps are"),
        ("The", ""),
        (" ... ", ""),
        ("Well, I thin", ""),
        ("Well, I think", "Well, I"),
        ("The **lamps", "The"),
        ("The **lamps ", "The lamps"),
        ("See [the doc", "See"),
        ("See [the docs](https://x.o", "See"),
        ("Visit https://exam", "Visit"),
        ("今天天气很好", ""),
        ("今天天气很好，我", "今天天气很好"),
        ("오늘은 날씨", "오늘은"),
        ("one\ntwo thr", "one two"),
    ],
)
def test_a_word_is_partial_text_once_the_space_after_it_arrives(text: str, certain: str) -> None:
    segmenter = Segmenter()
    assert segmenter.feed(text) == []
    assert segmenter.partial_text == certain


def test_a_sentence_is_certain_once_the_look_ahead_has_arrived() -> None:
    segmenter, sentence = Segmenter("plain"), "The lamps are lit."
    assert segmenter.feed(sentence + " We go."[: LOOK_AHEAD_CHARS - 1]) == []
    assert [piece.text for piece in segmenter.feed("?")] == [sentence]


@pytest.mark.parametrize(
    "cut",
    [
        "The lamps are lit.| We go.",
        "Is anyone there?| Nobody is!| Then we wait…| And wait.",
        "He paid $3.14 at 12:30 p.m. sharp.| Then he left.",
        "Dr. Smith and J. K. Brown met Mrs. Jones.| They talked.",
        "Made in the U.S. of A. It lasts, |e.g. outdoors.| Buy two.",
        "See No. 5 and Fig. 3 there.| They differ.",
        "Am 3. Mai fehlt er.| Danach nicht.",
        "Wait... what is that?!| A lamp.",
        "“Why me?” she asked.| He shrugged.",
        "He said “Stop it!”| She did.",
        "(It was late.)| (So was she.)",
        "A title without a full stop\r\n|And then its text.",
        "A paragraph.\u2029|And another.",
        "OK. Yes. That is it.| Good.",
        "hello to you all.| how are you. what now.| Fine",
        "今天天气很好。|我们去公园玩吧！|你觉得怎么样？",
        "「こちらへどうぞ。」と彼女は言った。|静かな夜だった。",
        "नमस्ते दुनिया कैसी है।| मैं ठीक हूँ।",
        "هل أنت بخير اليوم؟| نعم أنا بخير.",
    ],
)
def test_sentences_are_cut_where_a_reader_would_pause(cut: str) -> None:
    assert texts_of(cut.replace("|", "")) == [part.strip() for part in cut.split("|")]


def test_only_the_first_piece_may_be_a_clause() -> None:
    clause = "When the evening comes at last, "
    assert len(clause) > FIRST_CLAUSE_CHARS
    first, *rest = texts_of(f"{clause}{clause}they light the lamps. {clause}they go home.")
    assert first == clause.strip()
    assert rest == [f"{clause}they light the lamps.", f"{clause}they go home."]


def test_a_long_sentence_is_cut_at_a_clause_and_a_longer_one_at_a_space() -> None:
    first = "This is first. "
    clauses, words = "So many words here, " * 12 + "the end.", "So many words here " * 20 + "the end."
    assert [len(text) for text in texts_of(first + clauses)] == [14, SOFT_LIMIT_CHARS - 1, 48]
    assert all(
        text.endswith(("here", "end.", "first.", "many", "words", "So")) for text in texts_of(first + words)
    )
    assert SHORTEST_FORCED_CHARS < len(texts_of(first + words)[1]) <= HARD_LIMIT_CHARS


@pytest.mark.parametrize(
    "character",
    [
        "e\u0301\u0323",
        "\u0915\u094d\u0937\u093f",
        "\u1112\u1161\u11ab",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f44b\U0001f3fd",
    ],
)
def test_a_visible_character_is_never_split(character: str) -> None:
    for shift in range(len(character)):
        text = "a" * shift + character * 300 + "a"
        cuts = [piece.end for piece in pieces_of(text)][:-1]
        assert cuts or not shift
        assert all((cut - shift) % len(character) == 0 for cut in cuts)


PATHOLOGICAL = ["a", ". ", ")", "!", "a.", "a, ", "e\u0301", "\u0301", " ", "\U0001f642"]


@pytest.mark.parametrize("unit", ["The quick brown fox, they say, jumps over the dog. ", *PATHOLOGICAL])
def test_the_longest_utterance_is_segmented_in_milliseconds(unit: str) -> None:
    text = (unit * 20_000)[:20_000]

    def fastest_s(*parts: str) -> float:
        took_s = []
        for _ in range(3):
            began_s = time.process_time()
            pieces_of(*parts)
            took_s.append(time.process_time() - began_s)
        return min(took_s)

    assert fastest_s(text) < 0.2  # quadratic time takes seconds
    assert fastest_s(*text) < 0.25


@pytest.mark.parametrize("unit", ["[", "[a", "*", "`", "<", "<b a=b", "&", "- ", "[a](b", "https://a.b/c"])
def test_unclosed_marks_are_cleaned_in_milliseconds(unit: str) -> None:
    text = (unit * 5_000)[:5_000]
    began_s = time.process_time()
    pieces_of(*text, cleaning="markdown")
    assert time.process_time() - began_s < 0.5
