"""Encoded voices in memory, each encoded once however many ask at once.

In: keys, and a way to make what is missing. Out: prompts. Does not know: what a key stands for, engines,
disks, the time (a clock is given).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from makima_tts.errors import TtsUnavailable
from makima_tts.metrics import Metrics
from makima_tts.speech import VoicePrompt

Key = tuple[str, Hashable]
Reason = Literal["count", "bytes", "ttl", "deleted"]


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """A prompt that nobody asked for during ``ttl_s`` is dropped."""

    max_count: int
    max_bytes: int
    ttl_s: float


@dataclass(slots=True)
class _Kept:
    prompt: VoicePrompt
    used_s: float


class PromptLru:
    """Bounded by count, bytes and time since the last use; pure. ``evicted`` hears why each one went.

    Prompts grow while engines speak with them, so bytes are counted whenever somebody asks. Who has got one
    holds it as long as need be, whatever becomes of it here.
    """

    def __init__(self, bounds: CacheBounds, evicted: Callable[[Reason], object]) -> None:
        self._bounds = bounds
        self._evicted = evicted
        # In the order of their last use, so that what has expired lies in front.
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return sum(kept.prompt.size_bytes for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, now_s: float) -> VoicePrompt | None:
        """Counts as a use."""
        self._expire(now_s)
        kept = self._kept.get(key)
        if kept is None:
            return None
        kept.used_s = now_s
        self._kept.move_to_end(key)
        self._shrink()
        return kept.prompt

    def put(self, key: Key, prompt: VoicePrompt, now_s: float) -> None:
        """Counts as a use. One that is larger than all of the room is not kept, nor drives others out."""
        self._expire(now_s)
        self._forget(key)
        if prompt.size_bytes > self._bounds.max_bytes:
            self._evicted("bytes")
            return
        self._kept[key] = _Kept(prompt, now_s)
        self._shrink()

    def discard(self, voice_id: str) -> None:
        """Every prompt of this voice."""
        for key in [key for key in self._kept if key[0] == voice_id]:
            self._forget(key)
            self._evicted("deleted")

    def _shrink(self) -> None:
        self._drop_first_while(lambda: len(self._kept) > self._bounds.max_count, "count")
        self._drop_first_while(lambda: self.size_bytes > self._bounds.max_bytes, "bytes")

    def _expire(self, now_s: float) -> None:
        def stale() -> bool:
            first = next(iter(self._kept.values()), None)
            return first is not None and now_s - first.used_s >= self._bounds.ttl_s

        self._drop_first_while(stale, "ttl")

    def _drop_first_while(self, condition: Callable[[], bool], reason: Reason) -> None:
        while condition():
            self._forget(next(iter(self._kept)))
            self._evicted(reason)

    def _forget(self, key: Key) -> None:
        self._kept.pop(key, None)


class PromptCache:
    """Single-flight in front of a :class:`PromptLru`. Event loop only."""

    def __init__(self, bounds: CacheBounds, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._lru = PromptLru(bounds, self._count_eviction)
        self._flights: dict[Key, asyncio.Task[VoicePrompt]] = {}
        # Flights of voices that were deleted since: what they bring is not kept.
        self._unwanted: set[Key] = set()

    async def get(self, key: Key, make: Callable[[], Awaitable[VoicePrompt]]) -> VoicePrompt:
        """From memory, or made: once, however many ask meanwhile, and whoever of them goes away.

        Raises, to everyone who waits, what ``make`` raises; a failure is not kept.
        """
        kept = self._lru.get(key, self._clock())
        flight = self._flights.get(key)
        self._count_lookup("hit" if kept else "joined" if flight else "miss")
        return kept or await _landing(flight or self._take_off(key, make))

    def discard(self, voice_id: str) -> None:
        """Forget a voice that was deleted, and what is being made of it as soon as it is made."""
        self._unwanted.update(key for key in self._flights if key[0] == voice_id)
        self._lru.discard(voice_id)
        self._measure()

    async def close(self) -> None:
        """End what is being made; whoever waits for it hears TtsUnavailable."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _take_off(self, key: Key, make: Callable[[], Awaitable[VoicePrompt]]) -> asyncio.Task[VoicePrompt]:
        flight = self._flights[key] = asyncio.create_task(self._make(key, make))
        flight.add_done_callback(partial(self._landed, key))
        return flight

    async def _make(self, key: Key, make: Callable[[], Awaitable[VoicePrompt]]) -> VoicePrompt:
        prompt = await make()
        if key not in self._unwanted:
            self._lru.put(key, prompt, self._clock())
            self._measure()
        return prompt

    def _landed(self, key: Key, flight: asyncio.Task[VoicePrompt]) -> None:
        del self._flights[key]
        self._unwanted.discard(key)
        # Everyone who waited may be gone; then nobody else would look at the failure.
        if not flight.cancelled():
            flight.exception()

    def _count_lookup(self, result: str) -> None:
        self._metrics.voice_cache.labels(result=result).inc()
        self._measure()

    def _count_eviction(self, reason: Reason) -> None:
        self._metrics.voice_cache_evictions.labels(reason=reason).inc()

    def _measure(self) -> None:
        self._metrics.voice_cache_bytes.set(self._lru.size_bytes)


async def _landing(flight: asyncio.Task[VoicePrompt]) -> VoicePrompt:
    """Shielded: one who waits and goes away takes nothing from the others."""
    try:
        return await asyncio.shield(flight)
    except asyncio.CancelledError:
        if flight.cancelled():
            raise TtsUnavailable("The service is shutting down.") from None
        raise
