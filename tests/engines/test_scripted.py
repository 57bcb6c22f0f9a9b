"""The scripted engine's markers and options, which other suites rely on."""

import asyncio
import time

import numpy as np
import pytest

from makima_tts.engines.scripted import BUFFER_SAMPLES, FRAME_SAMPLES, OWN_TONE_HZ, SAMPLE_RATE_HZ
from makima_tts.errors import (
    Cancelled,
    GpuOutOfMemory,
    InvalidText,
    RateLimited,
    SynthesisError,
    TtsError,
    TtsUnavailable,
)
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt, VoiceReference
from tests.engines.directed import DirectedEngine


async def started(engine: DirectedEngine | None = None) -> DirectedEngine:
    engine = engine or DirectedEngine()
    await engine.start(lambda *_: None)
    return engine


def begin(engine: DirectedEngine, *pieces: str, voice: VoicePrompt | None = None) -> SpeechStream:
    stream = engine.open(UtteranceRequest("utterance", voice=voice))
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream


def reference(level: float = 0.5, transcript: str = "What is said in it.") -> VoiceReference:
    pcm = np.full(SAMPLE_RATE_HZ, level, np.float32)
    return VoiceReference(pcm, SAMPLE_RATE_HZ, transcript, "English", "icl")


async def test_it_generates_a_continuous_sine_of_60_ms_per_character() -> None:
    stream = begin(await started(), "Four", "and eight")
    pcm = np.concatenate([chunk.pcm async for chunk in stream])
    assert pcm.size == (3 + 7) * FRAME_SAMPLES  # 240 ms are 3 frames, 540 ms are 7
    positions = np.arange(pcm.size)
    assert np.allclose(pcm, 0.25 * np.sin(2 * np.pi * OWN_TONE_HZ * positions / SAMPLE_RATE_HZ), atol=1e-6)


@pytest.mark.parametrize(
    ("mark", "error"), [("fail", SynthesisError), ("oom", GpuOutOfMemory), ("foreign", InvalidText)]
)
async def test_a_failure_follows_the_audio_before_its_marker(mark: str, error: type[TtsError]) -> None:
    stream = begin(await started(), f"Four {{{mark}}} never said")
    assert [(await anext(stream)).pcm.size for _ in range(3)] == [FRAME_SAMPLES] * 3
    with pytest.raises(error):
        await anext(stream)


async def test_nan_fails_for_the_consumer() -> None:
    stream = begin(await started(), "{nan}")
    with pytest.raises(SynthesisError, match="not a number"):
        await anext(stream)


async def test_length_ends_an_utterance_early() -> None:
    stream = begin(await started(), "Four {length} never said", "nor this")
    assert len([chunk async for chunk in stream]) == 3
    assert stream.finish_reason == "length"


async def test_endless_audio_continues_until_a_cancel() -> None:
    stream = begin(await started(), "{endless}")
    heard_samples = 0
    while heard_samples < 3 * BUFFER_SAMPLES:
        heard_samples += (await anext(stream)).pcm.size
    stream.cancel()
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_a_stalled_utterance_keeps_its_slot_until_a_cancel() -> None:
    engine = await started()
    stream = begin(engine, "Four {stall} never said")
    for _ in range(3):
        await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await begin_and_drain(engine)
    assert not waiting.done()
    assert engine.health().active == 1
    stream.cancel()
    with pytest.raises(Cancelled):
        await waiting
    assert engine.health().active == 0


async def begin_and_drain(engine: DirectedEngine) -> None:
    async for _ in begin(engine, "Another one speaks meanwhile."):
        pass


async def test_slow_speech_has_the_given_real_time_factor() -> None:
    began_s = time.monotonic()
    chunks = [chunk async for chunk in begin(await started(), "{slow 0.5} Four")]
    assert time.monotonic() - began_s >= 0.5 * 3 * 0.08
    assert sum(chunk.synthesis_s for chunk in chunks) == pytest.approx(0.12)


async def test_no_more_utterances_are_admitted_than_there_are_slots() -> None:
    engine = await started(DirectedEngine(capacity=1))
    first = begin(engine, "{stall}")
    with pytest.raises(RateLimited) as refusal:
        begin(engine, "Hello.")
    assert refusal.value.retry_after_s
    first.cancel()
    assert len([chunk async for chunk in begin(engine, "Four")]) == 3


async def test_loading_waits_for_its_gate() -> None:
    gate, reports = asyncio.Event(), list[str]()
    engine = DirectedEngine(load_gate=gate, load_steps=7)
    loading = asyncio.create_task(engine.start(lambda stage, _progress: reports.append(stage)))
    await asyncio.sleep(0)
    assert len(reports) == 7
    assert not engine.health().alive
    gate.set()
    await loading
    assert engine.health().alive


async def test_loading_fails_on_request() -> None:
    engine = DirectedEngine(fail_to_load=True)
    with pytest.raises(TtsUnavailable):
        await started(engine)
    assert not engine.health().alive


async def test_an_engine_that_is_closed_during_loading_stays_closed() -> None:
    gate = asyncio.Event()
    engine = DirectedEngine(load_gate=gate)
    loading = asyncio.create_task(started(engine))
    await asyncio.sleep(0)
    await engine.close()
    gate.set()
    with pytest.raises(TtsUnavailable):
        await loading
    assert not engine.health().alive


async def test_voices_differ_by_audio_and_by_transcript() -> None:
    engine = await started()
    references = (reference(), reference(level=0.4), reference(transcript="Something else."))
    voices = [await engine.encode_voice(each) for each in references]
    tones = {
        np.concatenate([chunk.pcm async for chunk in begin(engine, "Four", voice=voice)]).tobytes()
        for voice in (None, *voices)
    }
    assert len(tones) == 4
    assert engine.encodes == 3


async def test_encoding_waits_for_its_gate_and_is_repeatable() -> None:
    gate = asyncio.Event()
    engine = await started(DirectedEngine(encode_gate=gate))
    encoding = asyncio.create_task(engine.encode_voice(reference()))
    await asyncio.sleep(0)
    assert engine.encodes == 1
    assert not encoding.done()
    gate.set()
    first, again = await encoding, await engine.encode_voice(reference())
    assert {name: tensor.tobytes() for name, tensor in first.tensors.items()} == {
        name: tensor.tobytes() for name, tensor in again.tensors.items()
    }
