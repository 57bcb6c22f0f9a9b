"""The word error rate, and the narrator's clip against its transcript."""

import json
from pathlib import Path

import pytest
import soundfile

from tests.transcribe import transcribe, word_error_rate, word_errors

NARRATOR = Path(__file__).parents[2] / "voices" / "narrator"


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("the lamps are lit", 0),
        ("The lamps, are LIT!", 0),
        ("the lamps lit", 1),
        ("the camps are lit", 1),
        ("and the lamps are lit now", 2),
        ("", 4),
    ],
)
def test_errors_are_words_inserted_deleted_or_replaced(heard: str, errors: int) -> None:
    assert word_errors("The lamps are lit.", heard) == errors
    assert word_error_rate("The lamps are lit.", heard) == errors / 4


def test_the_narrators_clip_matches_its_transcript() -> None:
    pcm, sample_rate_hz = soundfile.read(NARRATOR / "reference.wav", dtype="float32")
    transcript = json.loads((NARRATOR / "manifest.json").read_text())["transcript"]
    assert word_error_rate(transcript, transcribe(pcm, sample_rate_hz)) <= 0.05
