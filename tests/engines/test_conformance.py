"""The conformance suite of SpeechEngine: all engines pass the same tests. ENGINES lists the engines."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from makima_tts.engines import PreviewEngine, ScriptedEngine
from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine
from makima_tts.errors import Cancelled, InvalidText, TtsUnavailable, VoiceNotFound
from makima_tts.protocol import LANGUAGES, SAMPLE_RATES_HZ
from makima_tts.speech import (
    AudioChunk,
    SpeechEngine,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
    VoiceReference,
)
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.engines.directed import DirectedEngine


def qwen3() -> SpeechEngine:
    return Qwen3Engine(ModelChoice(str(checkpoint_folder(ENDING))), admission="slots")


ENGINES: dict[str, Callable[[], SpeechEngine]] = {
    "preview": PreviewEngine,
    "scripted": ScriptedEngine,
    "scripted, without cloning": lambda: DirectedEngine(cloning=False),
    "qwen3": qwen3,
}

PIECES = ("Good evening,", "and welcome back.", "The lamps are lit.")
LONG_PIECES = PIECES * 2
# Longer than the audio that any engine generates without a consumer.
LONG_PIECE = "The keeper climbs the stairs, and the lamps are lit, and " * 2

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=ENGINES)
def make_engine(request: pytest.FixtureRequest) -> Callable[[], SpeechEngine]:
    return ENGINES[request.param]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(make_engine: Callable[[], SpeechEngine]) -> AsyncIterator[SpeechEngine]:
    """The engine that is shared by all tests that do not close it."""
    engine = await started(make_engine)
    yield engine
    await engine.close()


async def started(make_engine: Callable[[], SpeechEngine]) -> SpeechEngine:
    engine = make_engine()
    await engine.start(lambda *_: None)
    return engine


def begin(
    engine: SpeechEngine, *pieces: str, seed: int = 1, voice: VoicePrompt | None = None
) -> SpeechStream:
    """An utterance whose text is still open."""
    stream = engine.open(UtteranceRequest("utterance", seed=seed, voice=voice))
    for piece in pieces:
        stream.feed(piece)
    return stream


async def chunks_of(stream: SpeechStream) -> list[AudioChunk]:
    return [chunk async for chunk in stream]


async def speak(
    engine: SpeechEngine, *pieces: str, seed: int = 1, voice: VoicePrompt | None = None
) -> list[AudioChunk]:
    stream = begin(engine, *pieces, seed=seed, voice=voice)
    stream.finish()
    return await chunks_of(stream)


def sound(chunks: list[AudioChunk]) -> npt.NDArray[np.float32]:
    return np.concatenate([chunk.pcm for chunk in chunks])


def same_sound(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> bool:
    """Equal except for the rounding of another order of summation: less than half a step of 16 bits."""
    return first.shape == second.shape and bool(np.abs(first - second).max() < 2**-16)


def reference(transcript: str | None = "What is said in it.") -> VoiceReference:
    pcm = np.sin(np.arange(72_000) / 20).astype(np.float32)
    return VoiceReference(pcm, 24_000, transcript, "English", "icl")


async def test_the_facts_are_valid_before_the_model_is_loaded(
    make_engine: Callable[[], SpeechEngine],
) -> None:
    facts = make_engine().facts
    assert facts.sample_rate_hz in SAMPLE_RATES_HZ
    assert facts.languages
    assert set(facts.languages) <= set(LANGUAGES)
    assert all((facts.name, facts.model, facts.fingerprint))
    assert facts.note.endswith(".")


async def test_start_reports_rising_progress_up_to_one(make_engine: Callable[[], SpeechEngine]) -> None:
    reports: list[tuple[str, float]] = []
    engine = make_engine()
    assert not engine.health().alive
    await engine.start(lambda stage, progress: reports.append((stage, progress)))
    assert engine.health().alive
    stages, progress = zip(*reports, strict=True)
    assert all(earlier <= later for earlier, later in pairwise(progress))
    assert 0 <= progress[0] < progress[-1] == 1
    assert all(stages)
    await engine.close()


async def test_an_engine_that_was_not_started_opens_no_utterance(
    make_engine: Callable[[], SpeechEngine],
) -> None:
    engine = make_engine()
    with pytest.raises(TtsUnavailable):
        begin(engine)
    assert engine.health().reason
    await engine.close()


async def test_an_utterance_is_spoken_to_its_end(engine: SpeechEngine) -> None:
    stream = begin(engine, *PIECES)
    stream.finish()
    assert sound(await chunks_of(stream)).size > engine.facts.sample_rate_hz
    assert stream.finish_reason == "stop"


async def test_an_utterance_without_text_ends_without_audio(engine: SpeechEngine) -> None:
    stream = begin(engine)
    stream.finish()
    assert await chunks_of(stream) == []
    assert stream.finish_reason == "stop"


async def test_chunks_are_valid_audio(engine: SpeechEngine) -> None:
    for chunk in await speak(engine, *PIECES):
        assert chunk.pcm.dtype == np.float32
        assert chunk.pcm.ndim == 1
        assert chunk.pcm.size > 0 or chunk.ends_piece
        assert np.abs(chunk.pcm).max(initial=0) <= 1
        assert np.isfinite(chunk.synthesis_s)
        assert chunk.synthesis_s >= 0


async def test_each_chunk_belongs_to_one_piece_and_each_piece_ends_once(engine: SpeechEngine) -> None:
    chunks = await speak(engine, *PIECES)
    indices = [chunk.piece_index for chunk in chunks]
    assert indices == sorted(indices)
    assert set(indices) == set(range(len(PIECES)))
    last_of_piece = [
        index for index in range(len(chunks)) if indices[index : index + 2] != [indices[index]] * 2
    ]
    assert [index for index, chunk in enumerate(chunks) if chunk.ends_piece] == last_of_piece


async def test_the_same_seed_gives_the_same_audio(engine: SpeechEngine) -> None:
    first, again, other = [sound(await speak(engine, *PIECES, seed=seed)) for seed in (5, 5, 6)]
    assert same_sound(first, again)
    assert not same_sound(first, other)


async def test_an_utterance_without_a_seed_is_spoken(engine: SpeechEngine) -> None:
    stream = engine.open(UtteranceRequest("utterance", language="Auto"))
    stream.feed(PIECES[0])
    stream.finish()
    assert sound(await chunks_of(stream)).size


async def test_live_text_gives_the_audio_of_the_whole_text(engine: SpeechEngine) -> None:
    stream = begin(engine)
    chunks: list[AudioChunk] = []
    for piece in PIECES:
        stream.feed(piece)
        chunks.append(await anext(stream))
        while not chunks[-1].ends_piece:
            chunks.append(await anext(stream))
    stream.finish()
    chunks += await chunks_of(stream)
    assert same_sound(sound(chunks), sound(await speak(engine, *PIECES)))


async def test_partial_texts_give_the_audio_of_the_whole_piece(engine: SpeechEngine) -> None:
    stream = begin(engine)
    for piece in PIECES:
        first, _, rest = piece.partition(" ")
        for part in (first, f" {rest}"):
            stream.feed(part, ends_piece=False)
            await asyncio.sleep(0)
        stream.feed("")
    stream.finish()
    chunks = await chunks_of(stream)
    assert [chunk.piece_index for chunk in chunks if chunk.ends_piece] == [0, 1, 2]
    assert same_sound(sound(chunks), sound(await speak(engine, *PIECES)))


async def test_concurrent_utterances_give_the_audio_that_they_give_alone(engine: SpeechEngine) -> None:
    alone = [sound(await speak(engine, *PIECES, seed=seed)) for seed in (1, 2, 3)]
    together = await asyncio.gather(*(speak(engine, *PIECES, seed=seed) for seed in (1, 2, 3)))
    for separately, side_by_side in zip(alone, together, strict=True):
        assert same_sound(separately, sound(side_by_side))


async def test_after_a_cancel_before_the_first_chunk_there_is_no_audio(engine: SpeechEngine) -> None:
    stream = begin(engine, *PIECES)
    stream.cancel()
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_a_cancel_in_mid_utterance_acts_at_once_and_is_idempotent(engine: SpeechEngine) -> None:
    stream = begin(engine, *LONG_PIECES)
    await anext(stream)
    stream.cancel()
    stream.cancel()
    with pytest.raises(Cancelled):
        await anext(stream)
    assert engine.health().active == 0


async def test_a_cancel_wakes_a_consumer_that_waits_for_audio(engine: SpeechEngine) -> None:
    stream = begin(engine)
    waiting = asyncio.create_task(chunks_of(stream))
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(Cancelled):
        await waiting


async def test_a_cancel_after_the_end_does_not_affect_other_utterances(engine: SpeechEngine) -> None:
    stream = begin(engine, PIECES[0])
    stream.finish()
    await chunks_of(stream)
    stream.cancel()
    assert engine.health().active == 0
    assert sound(await speak(engine, *PIECES)).size


async def test_text_for_a_cancelled_utterance_is_ignored(engine: SpeechEngine) -> None:
    stream = begin(engine, PIECES[0])
    stream.cancel()
    stream.feed(PIECES[1])
    stream.finish()
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_a_cancel_does_not_affect_a_concurrent_utterance(engine: SpeechEngine) -> None:
    alone = sound(await speak(engine, *LONG_PIECES))
    neighbour = asyncio.create_task(speak(engine, *LONG_PIECES))
    cancelled = begin(engine, *LONG_PIECES, seed=2)
    await anext(cancelled)
    cancelled.cancel()
    assert same_sound(sound(await neighbour), alone)


async def test_without_credit_no_audio_is_generated_and_other_utterances_are_not_delayed(
    engine: SpeechEngine,
) -> None:
    alone = await speak(engine, LONG_PIECE)
    unheard = begin(engine, LONG_PIECE)
    unheard.finish()
    assert same_sound(sound(await speak(engine, *PIECES)), sound(await speak(engine, *PIECES)))

    sink = unheard._sink  # only this test asks how much is undelivered
    largest_samples = max(chunk.pcm.size for chunk in alone)
    assert 0 < sink.put_samples < sink._buffer_samples + largest_samples < sound(alone).size
    assert same_sound(sound(await chunks_of(unheard)), sound(alone))


async def test_health_counts_the_open_utterances(engine: SpeechEngine) -> None:
    finished, cancelled = begin(engine, PIECES[0]), begin(engine, PIECES[0])
    assert engine.health().active == 2
    cancelled.cancel()
    assert engine.health().active == 1
    finished.finish()
    await chunks_of(finished)
    assert engine.health().active == 0
    assert engine.health().reason is None


async def test_an_unsupported_language_is_refused(engine: SpeechEngine) -> None:
    with pytest.raises(InvalidText):
        engine.open(UtteranceRequest("utterance", language="Klingon"))
    assert engine.health().active == 0


async def test_a_voice_of_another_engine_is_refused(engine: SpeechEngine) -> None:
    with pytest.raises(VoiceNotFound):
        begin(engine, voice=VoicePrompt("another engine", {}))
    assert engine.health().active == 0


async def test_a_voice_is_cloned_or_refused_as_the_facts_say(engine: SpeechEngine) -> None:
    if not engine.facts.cloning:
        with pytest.raises(VoiceNotFound):
            await engine.encode_voice(reference())
        return
    voice = await engine.encode_voice(reference())
    assert voice.fingerprint == engine.facts.fingerprint
    assert voice.size_bytes > 0
    cloned = sound(await speak(engine, *PIECES, voice=voice))
    assert same_sound(cloned, sound(await speak(engine, *PIECES, voice=voice)))
    assert not same_sound(cloned, sound(await speak(engine, *PIECES)))


async def test_cloning_in_mode_icl_needs_a_transcript(engine: SpeechEngine) -> None:
    with pytest.raises(VoiceNotFound):
        await engine.encode_voice(reference(transcript=None))


async def test_closing_ends_every_utterance_with_cancelled(make_engine: Callable[[], SpeechEngine]) -> None:
    engine = await started(make_engine)
    speaking, waiting = begin(engine, *LONG_PIECES), begin(engine)
    await anext(speaking)
    await engine.close()
    await engine.close()
    for stream in (speaking, waiting):
        with pytest.raises(Cancelled):
            await chunks_of(stream)
    assert not engine.health().alive
    assert engine.health().active == 0
    with pytest.raises(TtsUnavailable):
        begin(engine)


async def test_a_closed_engine_does_not_start_again(make_engine: Callable[[], SpeechEngine]) -> None:
    engine = make_engine()
    await engine.close()
    with pytest.raises(TtsUnavailable):
        await engine.start(lambda *_: None)
