"""What is spoken can be understood: by a recognizer, word for word."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from makima_tts.backends import PreviewEngine
from makima_tts.speech import UtteranceRequest
from makima_tts.text import Segmenter
from tests.sentences import SENTENCES
from tests.transcribe import transcribe, word_error_rate, word_errors, words

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


async def test_the_preview_engine_is_understood() -> None:
    engine = PreviewEngine()
    await engine.start(lambda _progress: None)
    errors = 0
    for sentence in SENTENCES:
        segmenter, stream = Segmenter(), engine.open(UtteranceRequest("utterance", seed=1))
        for piece in segmenter.feed(sentence) + segmenter.finish():
            stream.feed(piece.text)
        stream.finish()
        pcm = np.concatenate([chunk.pcm async for chunk in stream])
        errors += word_errors(sentence, transcribe(pcm, engine.facts.sample_rate_hz))
    await engine.close()
    assert errors <= 0.05 * sum(len(words(sentence)) for sentence in SENTENCES)


def test_the_narrators_clip_says_what_its_transcript_says() -> None:
    pcm, sample_rate_hz = soundfile.read(NARRATOR / "reference.wav", dtype="float32")
    transcript = json.loads((NARRATOR / "manifest.json").read_text())["transcript"]
    assert word_error_rate(transcript, transcribe(pcm, sample_rate_hz)) <= 0.05
