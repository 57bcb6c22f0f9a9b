"""Concurrent requests for a prompt share one encoding."""

import asyncio

import numpy as np
import pytest

from makima_tts.errors import SynthesisError, TtsUnavailable
from makima_tts.metrics import Metrics
from makima_tts.speech import VoicePrompt
from makima_tts.voices.prompts import PromptCache

KEY = ("anna", 1)
PROMPT = VoicePrompt("f", {"x": np.zeros(8, np.uint8)})


class Encoder:
    """Returns PROMPT once ``gate`` is open; raises ``failure`` instead, if it is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> VoicePrompt:
        self.calls += 1
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return PROMPT


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> PromptCache:
    return PromptCache(16, 100, 60.0, metrics, lambda: 0.0)


@pytest.fixture
async def encode() -> Encoder:
    return Encoder()


async def test_ten_concurrent_requests_share_one_encoding(
    cache: PromptCache, encode: Encoder, metrics: Metrics
) -> None:
    asking = [asyncio.create_task(cache.get(KEY, encode)) for _ in range(10)]
    await encode.begun.wait()
    encode.gate.set()
    assert await asyncio.gather(*asking) == [PROMPT] * 10
    assert await cache.get(KEY, encode) is PROMPT
    assert encode.calls == 1
    counted = [metrics.voice_cache.labels(result=result) for result in ("miss", "joined", "hit")]
    assert [counter._value.get() for counter in counted] == [1, 9, 1]
    assert metrics.voice_cache_bytes._value.get() == PROMPT.size_bytes


async def test_a_failure_reaches_all_callers_and_is_not_cached(cache: PromptCache, encode: Encoder) -> None:
    encode.failure = SynthesisError("It failed.")
    asking = [asyncio.create_task(cache.get(KEY, encode)) for _ in range(3)]
    await encode.begun.wait()
    encode.gate.set()
    assert await asyncio.gather(*asking, return_exceptions=True) == [encode.failure] * 3
    encode.failure = None
    assert await cache.get(KEY, encode) is PROMPT
    assert encode.calls == 2


async def test_cancelling_one_caller_does_not_cancel_the_encoding(
    cache: PromptCache, encode: Encoder
) -> None:
    first, second = (asyncio.create_task(cache.get(KEY, encode)) for _ in range(2))
    await encode.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    encode.gate.set()
    assert await second is PROMPT
    assert encode.calls == 1


async def test_a_prompt_is_cached_even_if_all_callers_were_cancelled(
    cache: PromptCache, encode: Encoder
) -> None:
    only = asyncio.create_task(cache.get(KEY, encode))
    await encode.begun.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    encode.gate.set()
    assert await cache.get(KEY, encode) is PROMPT
    assert encode.calls == 1


async def test_a_failure_without_callers_is_not_logged_by_asyncio(
    cache: PromptCache, encode: Encoder
) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    encode.failure = SynthesisError("It failed.")
    only = asyncio.create_task(cache.get(KEY, encode))
    await encode.begun.wait()
    only.cancel()
    encode.gate.set()
    await asyncio.gather(only, return_exceptions=True)
    encode.failure = None
    assert await cache.get(KEY, encode) is PROMPT
    assert complaints == []


async def test_two_voices_are_encoded_concurrently(cache: PromptCache, encode: Encoder) -> None:
    asking = [asyncio.create_task(cache.get((name, 1), encode)) for name in ("anna", "berta")]
    encode.gate.set()
    await asyncio.gather(*asking)
    assert encode.calls == 2


async def test_closing_raises_unavailable_in_waiting_callers(cache: PromptCache, encode: Encoder) -> None:
    waiting = asyncio.create_task(cache.get(KEY, encode))
    await encode.begun.wait()
    await cache.close()
    with pytest.raises(TtsUnavailable):
        await waiting


async def test_deleting_a_voice_evicts_its_prompts(
    cache: PromptCache, encode: Encoder, metrics: Metrics
) -> None:
    encode.gate.set()
    await cache.get(KEY, encode)
    cache.discard("anna")
    await cache.get(KEY, encode)
    assert encode.calls == 2
    assert metrics.voice_cache_evictions.labels(reason="deleted")._value.get() == 1


async def test_the_prompt_of_a_voice_deleted_during_encoding_is_not_cached(
    cache: PromptCache, encode: Encoder, metrics: Metrics
) -> None:
    asking = asyncio.create_task(cache.get(KEY, encode))
    await encode.begun.wait()
    cache.discard("anna")
    encode.gate.set()
    assert await asking is PROMPT
    assert metrics.voice_cache_bytes._value.get() == 0
    await cache.get(KEY, encode)
    await cache.get(KEY, encode)
    assert encode.calls == 2
