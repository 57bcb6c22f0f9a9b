"""Tests of the preview engine only: English is spoken, other text is refused, nothing is silently dropped."""

import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from makima_tts.engines import PreviewEngine
from makima_tts.engines.pieces import FIRST_CHUNK_SAMPLES, LARGEST_CHUNK_SAMPLES
from makima_tts.engines.preview import SAMPLE_RATE_HZ
from makima_tts.errors import InvalidText, TtsUnavailable
from makima_tts.speech import AudioChunk, UtteranceRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[PreviewEngine]:
    engine = PreviewEngine()
    await engine.start(lambda *_: None)
    yield engine
    await engine.close()


async def speak(engine: PreviewEngine, *pieces: str) -> list[AudioChunk]:
    stream = engine.open(UtteranceRequest("utterance", seed=1))
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return [chunk async for chunk in stream]


def first_audible(chunks: list[AudioChunk]) -> int:
    pcm = np.concatenate([chunk.pcm for chunk in chunks])
    return int(np.argmax(np.abs(pcm) > 0.01))


RUSSIAN = "\u041f\u0440\u0438\u0432\u0435\u0442."


async def test_a_foreign_word_is_left_out_with_a_warning_that_quotes_nothing(engine: PreviewEngine) -> None:
    stream = engine.open(UtteranceRequest("utterance"))
    for piece in (RUSSIAN, f"He said {RUSSIAN}", RUSSIAN):
        stream.feed(piece)
    stream.finish()
    chunks = [chunk async for chunk in stream]
    assert [chunk.piece_index for chunk in chunks if chunk.ends_piece] == [0, 1, 2]
    assert {chunk.piece_index for chunk in chunks if chunk.pcm.size} == {1}
    assert stream.warning == "The preview engine speaks English only: it left out words in Cyrillic letters."


async def test_a_text_in_another_language_is_refused(engine: PreviewEngine) -> None:
    with pytest.raises(InvalidText, match="Cyrillic"):
        await speak(engine, RUSSIAN, RUSSIAN)


async def test_a_text_cannot_inject_phonemes(engine: PreviewEngine) -> None:
    dictated, spelled = await speak(engine, "[hello](/wow/)"), await speak(engine, "(hello)(/wow/)")
    assert np.array_equal(dictated[-1].pcm, spelled[-1].pcm)


async def test_a_piece_without_speakable_text_is_skipped(engine: PreviewEngine) -> None:
    chunks = await speak(engine, "\U0001f642", "Hello there.")
    assert {chunk.piece_index for chunk in chunks} == {1}


async def test_audio_starts_without_silence(engine: PreviewEngine) -> None:
    assert first_audible(await speak(engine, "Good evening to all of you.")) < 0.08 * SAMPLE_RATE_HZ


async def test_a_clause_is_followed_by_a_shorter_pause_than_a_sentence(engine: PreviewEngine) -> None:
    def pause_s(chunks: list[AudioChunk]) -> float:
        pcm = np.concatenate([chunk.pcm for chunk in chunks])
        return float(pcm.size - np.flatnonzero(np.abs(pcm) > 0.002)[-1]) / SAMPLE_RATE_HZ

    clause, sentence = await speak(engine, "Good evening,"), await speak(engine, "Good “evening.”")
    assert pause_s(clause) <= 0.11
    assert 0.3 < pause_s(sentence) <= 0.36


async def test_chunks_grow_from_a_frame_to_a_second(engine: PreviewEngine) -> None:
    sizes = [chunk.pcm.size for chunk in await speak(engine, "The lamps are lit, and " * 10)]
    assert sizes[:3] == [FIRST_CHUNK_SAMPLES, 2 * FIRST_CHUNK_SAMPLES, 4 * FIRST_CHUNK_SAMPLES]
    assert max(sizes) == LARGEST_CHUNK_SAMPLES


async def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    engine = PreviewEngine()
    with pytest.raises(TtsUnavailable, match=r"pip install 'makima-tts\[preview\]'"):
        await engine.start(lambda *_: None)
    await engine.close()


async def test_a_broken_package_has_another_error_than_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenHibari:
        def __init__(self, **_options: object) -> None:
            raise OSError("a private path")

    monkeypatch.setattr("hibari.Hibari", BrokenHibari)
    engine = PreviewEngine()
    with pytest.raises(TtsUnavailable, match="cannot be loaded: OSError") as refusal:
        await engine.start(lambda *_: None)
    assert "private" not in refusal.value.message
    assert not engine.health().alive
    await engine.close()
