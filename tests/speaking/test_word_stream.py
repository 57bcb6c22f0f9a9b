"""Words beside the audio of an utterance: alignments that come in time, late, or never."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from makima_tts import speaking
from makima_tts.alignment import Aligner
from makima_tts.audio import OutputFormat
from makima_tts.engines import ScriptedEngine
from makima_tts.metrics import Metrics
from makima_tts.speaking import AudioOutput, EncodedChunk, UtteranceStream
from makima_tts.speech import ListenerClock, UtteranceRequest
from makima_tts.text.words import WordTime
from makima_tts.timings import NO_HURRY_MS, WordTimer

PATIENCE_S = 20.0
TEXT, RATE_HZ = "Hello there, my friend.", 24_000


class HeldAligner(Aligner):
    """Its results come when a test sets them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Sequence[str], int, bool]] = []
        self.results: list[asyncio.Future[Any]] = []

    def start(self) -> None:
        """There is no process."""

    def align(
        self, words: Sequence[str], pcm: npt.NDArray[np.int16], rate_hz: int, *, whole: bool
    ) -> "asyncio.Future[Any]":
        assert (str(pcm.dtype), rate_hz) == ("int16", RATE_HZ)
        self.asked.append((words, pcm.size, whole))
        self.results.append(asyncio.get_running_loop().create_future())
        return self.results[-1]


def stream_of(
    engine: ScriptedEngine,
    *,
    lead_ms: float = 250.0,
    language: str = "English",
    sound: OutputFormat = "pcm",
    **options: Any,
) -> UtteranceStream:
    output = AudioOutput(sound, RATE_HZ)
    words = WordTimer(language, lead_ms=lead_ms)
    request = UtteranceRequest("a", language)
    return UtteranceStream(engine, request, output, Metrics(), words=words, **options)


async def all_of(stream: UtteranceStream) -> list[EncodedChunk]:
    return [chunk async for chunk in stream.chunks()]


async def test_an_alignment_is_told_while_the_engine_waits_for_text(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, listener=ListenerClock(), aligner=aligner)
    stream.feed(TEXT)
    async with aclosing(stream.chunks()) as chunks:
        while not (chunk := await anext(chunks)).ends_piece:
            pass
        waiting = asyncio.create_task(anext(chunks))
        await asyncio.sleep(0)
        aligner.results[0].set_result([(0.05, 0.3)])
        aligner.results[-1].set_result([(0.05, 0.3), (0.35, 0.5), (0.55, 0.7), (0.75, 1.3)])
        chunk = await waiting
        assert (chunk.data, chunk.duration_ms) == (b"", 0.0)
        assert [word.estimated for word in chunk.words] == [False] * 3
        assert chunk.words[-1].end_ms == 1300
    assert aligner.asked[-1] == (["Hello", "there", "my", "friend"], RATE_HZ * 144 // 100, True)


async def test_the_last_words_wait_a_moment_for_their_alignment(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, lead_ms=NO_HURRY_MS, aligner=aligner)
    stream.feed("Hi.")
    stream.finish()
    words: list[WordTime] = []
    async for chunk in stream.chunks():
        if chunk.ends_piece:
            asyncio.get_running_loop().call_soon(aligner.results[-1].set_result, [(0.01, 0.2)])
        words += chunk.words
    assert [(word.start_ms, word.end_ms, word.estimated) for word in words] == [(10, 200, False)]


async def test_the_rest_that_an_encoder_holds_does_not_wait_for_the_alignment(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, lead_ms=NO_HURRY_MS, sound="mp3", aligner=aligner)
    stream.feed("Hi.")
    stream.finish()
    rest = b""
    async for chunk in stream.chunks():
        if chunk.data and not chunk.duration_ms:
            rest = chunk.data
            aligner.results[-1].set_result([(0.01, 0.2)])
        assert rest or not chunk.words
    assert rest


async def test_words_whose_alignment_never_comes_are_estimated(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "_ALIGNMENT_WAIT_S", 0.01)
    aligner = HeldAligner()
    stream = stream_of(engine, aligner=aligner)
    stream.feed(TEXT)
    stream.finish()
    chunks = await all_of(stream)
    words = [word for chunk in chunks for word in chunk.words]
    assert [word.estimated for word in words] == [True] * 4
    assert all(result.done() for result in aligner.results)


async def test_the_end_waits_for_no_alignment_once_all_words_are_told(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "_ALIGNMENT_WAIT_S", math.inf)
    stream = stream_of(engine, lead_ms=math.inf, aligner=HeldAligner())
    stream.feed(TEXT)
    stream.finish()
    async with asyncio.timeout(PATIENCE_S):
        chunks = await all_of(stream)
    assert len([word for chunk in chunks for word in chunk.words]) == 4


async def test_audio_is_the_same_with_and_without_timings(engine: ScriptedEngine) -> None:
    async def audio(**options: Any) -> bytes:
        output = AudioOutput("pcm", RATE_HZ)
        stream = UtteranceStream(engine, UtteranceRequest("a"), output, Metrics(), **options)
        stream.feed(TEXT)
        stream.finish()
        return b"".join([chunk.data for chunk in await all_of(stream)])

    assert await audio() == await audio(words=WordTimer("English"))


async def test_other_languages_are_not_aligned(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, language="German", aligner=aligner)
    stream.feed("Guten Abend, meine Freunde.")
    stream.finish()
    assert len([word for chunk in await all_of(stream) for word in chunk.words]) == 4
    assert aligner.asked == []


async def test_a_cancel_drops_what_waits_for_the_aligner(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, aligner=aligner)
    stream.feed(TEXT + " {endless}")
    async with aclosing(stream.chunks()) as chunks:
        while not aligner.results:
            await anext(chunks)
        stream.cancel()
    assert all(result.cancelled() for result in aligner.results)


async def test_a_piece_that_does_not_end_is_aligned_no_more_and_not_kept(engine: ScriptedEngine) -> None:
    aligner = HeldAligner()
    stream = stream_of(engine, aligner=aligner)
    stream.feed("Hello there. {endless}")
    async with aclosing(stream.chunks()) as chunks:
        while stream.audio_s < 130:
            await anext(chunks)
            for result in aligner.results:
                if not result.done():
                    result.set_result([(0.0, 0.1)])
    sizes_s = [samples / RATE_HZ for _, samples, _ in aligner.asked]
    assert 40 < max(sizes_s) <= 60
    assert sizes_s == sorted(sizes_s)
