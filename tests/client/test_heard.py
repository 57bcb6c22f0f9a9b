"""The part of a text that was played, by the times of its words or of its sentences."""

import re

import pytest

from makima_tts.client.speech import heard_of
from makima_tts.protocol import Sentence, TimedWord

TEXT = "A first sentence.  And [a second](b) one, which is longer. A third."
SENTENCES = [
    Sentence(utterance_id="a", index=0, text="A first sentence.", start_ms=0, end_ms=1000),
    Sentence(
        utterance_id="a", index=1, text="And [a second](b) one, which is longer.", start_ms=1000, end_ms=3000
    ),
]
# 100 ms each; the second sentence begins at 1000 ms, and the third is not known yet.
STARTS_MS = (0, 100, 200, 1000, 1100, 1200, 1300, 1400, 1500, 1600)
SPOKEN = [word for word in re.finditer(r"\w+", TEXT) if word.group() != "b"]
WORDS = [
    TimedWord.of(TEXT, *word.span(), start_ms=ms, end_ms=ms + 100, estimated=True)
    for word, ms in zip(SPOKEN, STARTS_MS, strict=False)
]


@pytest.mark.parametrize("words", [[], WORDS], ids=["sentences", "words"])
def test_the_parts_are_the_text_and_the_first_one_grows(words: list[TimedWord]) -> None:
    parts = [heard_of(TEXT, SENTENCES, words, played_ms) for played_ms in range(0, 4000, 50)]
    assert {part.spoken + part.remaining for part in parts} == {TEXT}
    lengths = [len(part.spoken) for part in parts]
    assert lengths == sorted(lengths)
    assert all(part.spoken == part.spoken.rstrip() for part in parts)
    assert parts[-1].remaining == " A third."


@pytest.mark.parametrize(
    ("played_ms", "spoken"),
    [
        (99, ""),
        (100, "A"),
        (300, "A first sentence."),
        (1150, "A first sentence.  And"),
        (1300, "A first sentence.  And [a second]"),
        (1400, "A first sentence.  And [a second](b) one,"),
        (3000, "A first sentence.  And [a second](b) one, which is longer."),
    ],
)
def test_a_word_counts_with_its_punctuation_once_it_has_ended(played_ms: int, spoken: str) -> None:
    assert heard_of(TEXT, SENTENCES, WORDS, played_ms).spoken == spoken
