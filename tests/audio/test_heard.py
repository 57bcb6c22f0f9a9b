"""Speech is transcribed in every format and at usual speeds to the same words as in the WAV."""

import asyncio

import numpy as np
import pytest

from makima_tts.audio import OutputFormat, rate_of
from makima_tts.engines import PreviewEngine
from makima_tts.speech import UtteranceRequest
from tests.audio.streams import Samples, decoded, encoded, frames_of
from tests.sentences import SENTENCES
from tests.transcribe import transcribe, word_errors, words

SPOKEN = (SENTENCES[0], SENTENCES[3])


async def _spoken() -> list[Samples]:
    engine = PreviewEngine()
    await engine.start(lambda *_: None)
    sentences = []
    for sentence in SPOKEN:
        stream = engine.open(UtteranceRequest("utterance", seed=1))
        stream.feed(sentence)
        stream.finish()
        sentences.append(np.concatenate([chunk.pcm.astype(np.float32) async for chunk in stream]))
    await engine.close()
    return sentences


def error_rate(spoken: list[Samples], wanted: OutputFormat, speed: float = 1.0) -> float:
    """Word errors per word, sentence by sentence, since the recognizer drops words of longer input."""
    rate_hz = rate_of(wanted, None)
    heard = [decoded(encoded(frames_of(pcm), wanted, rate_hz, speed), wanted, rate_hz) for pcm in spoken]
    errors = sum(word_errors(text, transcribe(*sound)) for text, sound in zip(SPOKEN, heard, strict=True))
    return errors / sum(len(words(text)) for text in SPOKEN)


@pytest.fixture(scope="module")
def spoken() -> list[Samples]:
    return asyncio.run(_spoken())


@pytest.fixture(scope="module")
def of_wav(spoken: list[Samples]) -> float:
    rate = error_rate(spoken, "wav")
    assert rate <= 0.05
    return rate


@pytest.mark.parametrize(
    ("wanted", "worse"), [("mp3", 0.05), ("opus", 0.05), ("aac", 0.05), ("mulaw", 0.1), ("alaw", 0.1)]
)
def test_every_format_is_transcribed_like_its_wav(
    spoken: list[Samples], of_wav: float, wanted: OutputFormat, worse: float
) -> None:
    assert error_rate(spoken, wanted) <= of_wav + worse


@pytest.mark.parametrize("wanted", ["pcm", "flac"])
def test_lossless_formats_hold_the_samples_of_the_wav(spoken: list[Samples], wanted: OutputFormat) -> None:
    wav, other = (encoded(frames_of(spoken[0]), each, 24_000) for each in ("wav", wanted))
    assert np.array_equal(decoded(other, wanted, 24_000)[0], decoded(wav, "wav", 24_000)[0])


@pytest.mark.parametrize("speed", [0.75, 1.5])
def test_slow_and_fast_speech_is_transcribed_like_its_wav(
    spoken: list[Samples], of_wav: float, speed: float
) -> None:
    assert error_rate(spoken, "wav", speed) <= of_wav + 0.05
