"""The stream of one utterance, without any protocol around it."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from makima_tts.engines import ScriptedEngine
from makima_tts.errors import Cancelled, UtteranceTimeout
from makima_tts.metrics import Metrics
from makima_tts.speaking import AudioOutput, EncodedChunk, UtteranceStream
from makima_tts.speech import ListenerClock, UtteranceRequest, VoicePrompt

RATE_HZ = 24_000
# Ten characters, 60 ms each, are 7.5 frames of the scripted engine: it speaks whole ones.
TEXT, SAMPLES = "Ten chars.", 8 * 1920


def stream_of(engine: ScriptedEngine, audio_format: Any = "pcm", **options: Any) -> UtteranceStream:
    output = AudioOutput(audio_format, RATE_HZ)
    return UtteranceStream(
        engine, UtteranceRequest("a"), output, options.pop("metrics", Metrics()), **options
    )


async def all_of(stream: UtteranceStream) -> list[EncodedChunk]:
    return [chunk async for chunk in stream.chunks()]


async def test_text_that_comes_before_the_voice_is_spoken_once_it_is_loaded(engine: ScriptedEngine) -> None:
    loaded = asyncio.Event()

    async def find_voice() -> VoicePrompt | None:
        await loaded.wait()
        return None

    stream = stream_of(engine, find_voice=find_voice)
    stream.feed("Ten ", ends_piece=False)
    stream.feed("chars.")
    stream.finish()
    speaking = asyncio.create_task(all_of(stream))
    await asyncio.sleep(0)
    loaded.set()
    chunks = await speaking
    assert sum(len(chunk.data) for chunk in chunks) == 2 * SAMPLES
    assert sum(chunk.duration_ms for chunk in chunks) == 1000 * stream.audio_s == 1000 * SAMPLES / RATE_HZ
    assert [chunk.ends_piece for chunk in chunks][-1]
    assert (stream.finish_reason, stream.cancelled) == ("stop", False)


async def test_a_cancel_before_the_voice_is_loaded_ends_the_utterance_without_audio(
    engine: ScriptedEngine,
) -> None:
    metrics = Metrics()

    async def find_voice() -> VoicePrompt | None:
        stream.cancel()
        return None

    stream = stream_of(engine, find_voice=find_voice, metrics=metrics)
    stream.feed(TEXT)
    stream.finish()
    with pytest.raises(Cancelled):
        await all_of(stream)
    assert engine.health().active == 0
    assert b"cancel_to_silence_seconds_count 1.0" in metrics.render()
    assert b"utterances_speaking 0.0" in metrics.render()


async def test_a_cancel_during_speech_stops_the_engine_at_once_and_no_chunk_follows(
    engine: ScriptedEngine,
) -> None:
    listener = ListenerClock()
    stream = stream_of(engine, listener=listener)
    stream.feed("It {endless} goes on.")
    async with aclosing(stream.chunks()) as chunks:
        await anext(chunks)
        stream.cancel()
        assert engine.health().active == 0
        assert listener.plays_until_s is None
        with pytest.raises(Cancelled):
            await anext(chunks)


async def test_a_consumer_that_stops_half_way_frees_the_engine(engine: ScriptedEngine) -> None:
    metrics = Metrics()
    stream = stream_of(engine, metrics=metrics)
    stream.feed("It {endless} goes on.")
    async with aclosing(stream.chunks()) as chunks:
        await anext(chunks)
        assert b"utterances_speaking 1.0" in metrics.render()
    await asyncio.sleep(0.01)
    assert engine.health().active == 0
    assert b"utterances_speaking 0.0" in metrics.render()
    stream.cancel()
    assert not stream.cancelled


async def test_a_chunk_that_does_not_come_in_time_is_a_timeout(engine: ScriptedEngine) -> None:
    stream = stream_of(engine, chunk_timeout_s=0.01)
    stream.feed("{stall}a")
    with pytest.raises(UtteranceTimeout):
        await all_of(stream)


@pytest.mark.parametrize("audio_format", ["wav", "flac", "pcm32f"])
async def test_an_utterance_without_audio_has_no_bytes_either(
    engine: ScriptedEngine, audio_format: str
) -> None:
    stream = stream_of(engine, audio_format)
    stream.finish()
    assert b"".join([chunk.data for chunk in await all_of(stream)]) == b""
    assert stream.ttfa_s is None
