"""The LRU cache against a simple model of it."""

import weakref
from dataclasses import dataclass

import numpy as np
from hypothesis import given, strategies as st

from makima_tts.speech import VoicePrompt
from makima_tts.voices.prompts import PromptLru, Reason

KEYS = [("a", 1), ("a", 2), ("b", 1), ("c", 1)]
MAX_COUNT, MAX_BYTES, TTL_S = 3, 100, 10.0


def prompt(size_bytes: int) -> VoicePrompt:
    return VoicePrompt("f", {"x": np.zeros(size_bytes, np.uint8)})


@dataclass
class Model:
    """A list in the order of last use."""

    kept: list[tuple[tuple[str, int], int, float]]
    evicted: list[Reason]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self.kept)

    def expire(self, now_s: float) -> None:
        stale = [entry for entry in self.kept if now_s - entry[2] >= TTL_S]
        self.kept = [entry for entry in self.kept if entry not in stale]
        self.evicted += ["ttl"] * len(stale)

    def get(self, key: tuple[str, int], now_s: float) -> int | None:
        self.expire(now_s)
        found = next((size for kept, size, _ in self.kept if kept == key), None)
        if found is not None:
            self.kept = [entry for entry in self.kept if entry[0] != key] + [(key, found, now_s)]
        return found

    def put(self, key: tuple[str, int], size_bytes: int, now_s: float) -> None:
        self.expire(now_s)
        self.kept = [entry for entry in self.kept if entry[0] != key]
        if size_bytes > MAX_BYTES:
            self.evicted.append("bytes")
            return
        self.kept.append((key, size_bytes, now_s))
        while len(self.kept) > MAX_COUNT:
            self.kept.pop(0)
            self.evicted.append("count")
        while self.size_bytes > MAX_BYTES:
            self.kept.pop(0)
            self.evicted.append("bytes")

    def discard(self, voice_id: str) -> None:
        before = len(self.kept)
        self.kept = [entry for entry in self.kept if entry[0][0] != voice_id]
        self.evicted += ["deleted"] * (before - len(self.kept))


Step = tuple[str, tuple[str, int], int, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["get", "put", "put", "discard"]),
        st.sampled_from(KEYS),
        st.integers(0, 120),
        st.floats(0, 6, allow_nan=False),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_keeps_the_same_prompts_as_the_model(steps: list[Step]) -> None:
    evicted: list[Reason] = []
    lru, model = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append), Model([], [])
    now_s = 0.0
    for action, key, size_bytes, passes_s in steps:
        now_s += passes_s
        match action:
            case "get":
                found = lru.get(key, now_s)
                assert (None if found is None else found.size_bytes) == model.get(key, now_s)
            case "put":
                lru.put(key, prompt(size_bytes), now_s)
                model.put(key, size_bytes, now_s)
            case "discard":
                lru.discard(key[0])
                model.discard(key[0])
        assert evicted == model.evicted
        assert (len(lru), lru.size_bytes) == (len(model.kept), model.size_bytes)


def test_the_least_recently_used_is_evicted_above_the_count() -> None:
    evicted: list[Reason] = []
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append)
    for key in KEYS[:3]:
        lru.put(key, prompt(1), 0.0)
    lru.get(KEYS[0], 0.0)
    lru.put(KEYS[3], prompt(1), 0.0)
    assert [lru.get(key, 0.0) is not None for key in KEYS] == [True, False, True, True]
    assert evicted == ["count"]


def test_a_prompt_larger_than_the_cache_evicts_no_others() -> None:
    evicted: list[Reason] = []
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append)
    lru.put(KEYS[0], prompt(100), 0.0)
    lru.put(KEYS[2], prompt(101), 0.0)
    assert lru.get(KEYS[0], 0.0) is not None
    assert lru.get(KEYS[2], 0.0) is None
    assert evicted == ["bytes"]


def test_use_renews_the_ttl() -> None:
    evicted: list[Reason] = []
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append)
    lru.put(KEYS[0], prompt(1), 0.0)
    for now_s in (9.0, 18.0, 27.0):
        assert lru.get(KEYS[0], now_s) is not None
    assert lru.get(KEYS[0], 37.0) is None
    assert evicted == ["ttl"]


def test_memory_that_an_engine_adds_to_a_prompt_counts_at_its_next_use() -> None:
    evicted: list[Reason] = []
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append)
    speaking = prompt(40)
    lru.put(KEYS[0], prompt(40), 0.0)
    lru.put(KEYS[2], speaking, 0.0)
    speaking.engine_share.size_bytes += 30
    assert lru.size_bytes == 110
    assert lru.get(KEYS[2], 0.0) is speaking
    assert (lru.get(KEYS[0], 0.0), lru.size_bytes, evicted) == (None, 70, ["bytes"])


def test_a_prompt_that_outgrows_the_cache_is_returned_and_evicted() -> None:
    evicted: list[Reason] = []
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, evicted.append)
    speaking = prompt(100)
    lru.put(KEYS[0], speaking, 0.0)
    speaking.engine_share.size_bytes += 1
    assert lru.get(KEYS[0], 0.0) is speaking
    assert (len(lru), lru.size_bytes, evicted) == (0, 0, ["bytes"])


def test_an_evicted_prompt_is_freed() -> None:
    lru = PromptLru(MAX_COUNT, MAX_BYTES, TTL_S, lambda _reason: None)
    first = prompt(60)
    lru.put(KEYS[0], first, 0.0)
    watched = weakref.ref(first)
    del first
    assert watched() is not None
    lru.put(KEYS[2], prompt(60), 0.0)
    assert watched() is None
