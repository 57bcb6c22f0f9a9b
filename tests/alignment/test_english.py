"""The times of words that a forced alignment finds."""

from itertools import product
from statistics import median

import numpy as np
import pytest

from makima_tts.alignment.english import EnglishAligner
from tests.alignment.speech import RATE_HZ, joined

TEXTS = (
    "nobody knows what happened to the old captain after he left the ship that winter morning",
    "when the wind blows from the north all lamps in the harbor are lit before seven",
    "she sells sea shells by the shore",
)
SENTENCES = [text.split() for text in TEXTS]
LONG = SENTENCES[0]
SPOKEN, WRITTEN = (
    "there were forty two people on the island in nineteen ninety",
    "There were 42 people on the island in 1990",
)


@pytest.fixture(scope="module")
def aligner() -> EnglishAligner:
    return EnglishAligner()


def errors_ms(found: list[tuple[float, float]], known: list[tuple[float, float]]) -> list[float]:
    """Of begins and ends."""
    assert len(found) == len(known)
    pairs = zip(found, known, strict=True)
    return [1000 * abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("gap_s", [0.0, 0.05, 0.4])
def test_words_are_found_within_80_ms_of_where_they_are(aligner: EnglishAligner, gap_s: float) -> None:
    errors = []
    for words in SENTENCES:
        pcm, known = joined(words, gap_s)
        errors += errors_ms(aligner.align(words, pcm, RATE_HZ, whole=True), known)
    assert median(errors) <= 80


def test_times_rise_and_lie_in_the_audio_and_do_not_depend_on_earlier_pieces(aligner: EnglishAligner) -> None:
    pcm, _ = joined(LONG)
    first = aligner.align(LONG, pcm, RATE_HZ, whole=True)
    edges = [edge for word in first for edge in word]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= pcm.size / RATE_HZ
    other = joined(SENTENCES[1])[0]
    aligner.align(SENTENCES[1], other, RATE_HZ, whole=True)
    assert aligner.align(LONG, pcm, RATE_HZ, whole=True) == first


def test_the_beginning_of_a_piece_has_its_words_but_the_last(aligner: EnglishAligner) -> None:
    pcm, known = joined(LONG)
    for length_s in (1.0, 2.0, 3.0):
        found = aligner.align(LONG, pcm[: round(length_s * RATE_HZ)], RATE_HZ, whole=False)
        assert abs(len(found) - sum(end <= length_s for _, end in known)) <= 2
        assert median(errors_ms(found, known[: len(found)])) <= 80


@pytest.mark.parametrize(
    "strange", ["Kapitänowski", "c4pt41n", "O\N{RIGHT SINGLE QUOTATION MARK}Captain", "k.a.p-tain"]
)
def test_a_word_in_no_dictionary_keeps_its_neighbours_in_place(aligner: EnglishAligner, strange: str) -> None:
    pcm, known = joined(LONG)
    words = [strange if word == "captain" else word for word in LONG]
    found = aligner.align(words, pcm, RATE_HZ, whole=True)
    assert median(errors_ms(found, known)) <= 80


def test_numbers_lie_between_their_neighbours(aligner: EnglishAligner) -> None:
    pcm, known = joined(SPOKEN.split())
    found = aligner.align(WRITTEN.split(), pcm, RATE_HZ, whole=True)
    expected = [*known[:2], (known[2][0], known[3][1]), *known[4:9], (known[9][0], known[10][1])]
    assert median(errors_ms(found, expected)) <= 80


@pytest.mark.parametrize(
    "text", ["Die Lampen brannten schon, bevor es dunkel wurde", "今 天", "Приветик и все", ""]
)
def test_text_that_is_not_english_has_no_times(aligner: EnglishAligner, text: str) -> None:
    assert aligner.align(text.split(), joined(LONG)[0], RATE_HZ, whole=True) == []


def test_words_that_the_sound_has_no_room_for_have_no_times(aligner: EnglishAligner) -> None:
    pcm, _ = joined(["she"])
    assert aligner.align(LONG, pcm, RATE_HZ, whole=True) == []
    for samples, whole in product((0, 1, 100, 5000), (True, False)):
        times = aligner.align(["she"], np.zeros(samples, np.int16), RATE_HZ, whole=whole)
        assert all(0 <= start <= end <= samples / RATE_HZ for start, end in times)
