"""Single-flight: whoever asks, however many, and whoever of them goes away."""

import asyncio

import numpy as np
import pytest

from makima_tts.errors import SynthesisError, TtsUnavailable
from makima_tts.metrics import Metrics
from makima_tts.speech import VoicePrompt
from makima_tts.voices.prompts import CacheBounds, PromptCache

KEY = ("anna", 1)
PROMPT = VoicePrompt("f", {"x": np.zeros(8, np.uint8)})


class Maker:
    """Makes PROMPT once ``gate`` is open; fails with ``failure`` instead, if there is one."""

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
    return PromptCache(CacheBounds(16, 100, 60.0), metrics, lambda: 0.0)


@pytest.fixture
async def make() -> Maker:
    return Maker()


async def test_ten_that_ask_at_once_are_served_by_one_encoding(
    cache: PromptCache, make: Maker, metrics: Metrics
) -> None:
    asking = [asyncio.create_task(cache.get(KEY, make)) for _ in range(10)]
    await make.begun.wait()
    make.gate.set()
    assert await asyncio.gather(*asking) == [PROMPT] * 10
    assert await cache.get(KEY, make) is PROMPT
    assert make.calls == 1
    counted = [metrics.voice_cache.labels(result=result) for result in ("miss", "joined", "hit")]
    assert [counter._value.get() for counter in counted] == [1, 9, 1]
    assert metrics.voice_cache_bytes._value.get() == PROMPT.size_bytes


async def test_a_failure_reaches_all_that_wait_and_is_not_kept(cache: PromptCache, make: Maker) -> None:
    make.failure = SynthesisError("It failed.")
    asking = [asyncio.create_task(cache.get(KEY, make)) for _ in range(3)]
    await make.begun.wait()
    make.gate.set()
    assert await asyncio.gather(*asking, return_exceptions=True) == [make.failure] * 3
    make.failure = None
    assert await cache.get(KEY, make) is PROMPT
    assert make.calls == 2


async def test_one_that_goes_away_takes_nothing_from_the_others(cache: PromptCache, make: Maker) -> None:
    first, second = (asyncio.create_task(cache.get(KEY, make)) for _ in range(2))
    await make.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    make.gate.set()
    assert await second is PROMPT
    assert make.calls == 1


async def test_what_nobody_waits_for_any_more_is_kept_all_the_same(cache: PromptCache, make: Maker) -> None:
    only = asyncio.create_task(cache.get(KEY, make))
    await make.begun.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    make.gate.set()
    assert await cache.get(KEY, make) is PROMPT
    assert make.calls == 1


async def test_a_failure_that_nobody_waits_for_is_no_complaint_of_asyncio(
    cache: PromptCache, make: Maker
) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    make.failure = SynthesisError("It failed.")
    only = asyncio.create_task(cache.get(KEY, make))
    await make.begun.wait()
    only.cancel()
    make.gate.set()
    await asyncio.gather(only, return_exceptions=True)
    make.failure = None
    assert await cache.get(KEY, make) is PROMPT
    assert complaints == []


async def test_two_voices_are_made_side_by_side(cache: PromptCache, make: Maker) -> None:
    asking = [asyncio.create_task(cache.get((name, 1), make)) for name in ("anna", "berta")]
    make.gate.set()
    await asyncio.gather(*asking)
    assert make.calls == 2


async def test_closing_tells_those_who_wait_that_the_service_goes(cache: PromptCache, make: Maker) -> None:
    waiting = asyncio.create_task(cache.get(KEY, make))
    await make.begun.wait()
    await cache.close()
    with pytest.raises(TtsUnavailable):
        await waiting


async def test_a_deleted_voice_is_forgotten_and_counted(
    cache: PromptCache, make: Maker, metrics: Metrics
) -> None:
    make.gate.set()
    await cache.get(KEY, make)
    cache.discard("anna")
    await cache.get(KEY, make)
    assert make.calls == 2
    assert metrics.voice_cache_evictions.labels(reason="deleted")._value.get() == 1


async def test_what_is_made_of_a_voice_that_is_deleted_meanwhile_is_not_kept(
    cache: PromptCache, make: Maker, metrics: Metrics
) -> None:
    asking = asyncio.create_task(cache.get(KEY, make))
    await make.begun.wait()
    cache.discard("anna")
    make.gate.set()
    assert await asking is PROMPT
    assert metrics.voice_cache_bytes._value.get() == 0
    await cache.get(KEY, make)
    await cache.get(KEY, make)
    assert make.calls == 2
