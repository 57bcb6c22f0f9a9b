"""Encoded voices: an LRU cache in memory, files on disk, one encoding for concurrent requests.

In: keys, and a coroutine that encodes what is missing. Out: prompts. Does not know: engines, what a key
stands for, the time (a clock is passed in).

The key of a file is a digest over everything that a prompt depends on, so a file never goes stale. The cache
folder may be deleted at any time, and may be read-only: then prompts are kept in memory only.
"""

import asyncio
import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from makima_tts.errors import TtsUnavailable
from makima_tts.metrics import Metrics
from makima_tts.speech import VoicePrompt

MAX_BYTES = 2 * 1024**3

Key = tuple[str, Hashable]
Reason = Literal["count", "bytes", "ttl", "deleted"]

_SUFFIX = ".safetensors"
_FINGERPRINT = "fingerprint"
# The last two are raised for types that numpy does not have: bfloat16, 8 bits and fewer.
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, AttributeError)
_log = structlog.get_logger(__name__)


class PromptLru:
    """Bounded by count, bytes and time since the last use; pure. ``on_evicted`` gets the reason each time.

    Prompts grow while engines use them, so bytes are counted again at every use. A caller that holds a prompt
    keeps it after its eviction.
    """

    def __init__(
        self, max_count: int, max_bytes: int, ttl_s: float, on_evicted: Callable[[Reason], object]
    ) -> None:
        self._max_count, self._max_bytes, self._ttl_s = max_count, max_bytes, ttl_s
        self._on_evicted = on_evicted
        # Prompt and time of last use, least recently used first.
        self._entries: OrderedDict[Key, tuple[VoicePrompt, float]] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        return sum(prompt.size_bytes for prompt, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now_s: float) -> VoicePrompt | None:
        """Counts as a use."""
        self._expire(now_s)
        if key not in self._entries:
            return None
        prompt, _ = self._entries.pop(key)
        self._append(key, prompt, now_s)
        return prompt

    def put(self, key: Key, prompt: VoicePrompt, now_s: float) -> None:
        """Counts as a use. A prompt larger than the whole cache is not kept, and evicts no others."""
        self._expire(now_s)
        self._entries.pop(key, None)
        if prompt.size_bytes > self._max_bytes:
            self._on_evicted("bytes")
        else:
            self._append(key, prompt, now_s)

    def discard(self, voice_id: str) -> None:
        for key in [key for key in self._entries if key[0] == voice_id]:
            del self._entries[key]
            self._on_evicted("deleted")

    def _append(self, key: Key, prompt: VoicePrompt, now_s: float) -> None:
        self._entries[key] = prompt, now_s
        while len(self._entries) > self._max_count:
            self._evict_oldest("count")
        while self.size_bytes > self._max_bytes:
            self._evict_oldest("bytes")

    def _expire(self, now_s: float) -> None:
        while self._entries and now_s - next(iter(self._entries.values()))[1] >= self._ttl_s:
            self._evict_oldest("ttl")

    def _evict_oldest(self, reason: Reason) -> None:
        self._entries.popitem(last=False)
        self._on_evicted(reason)


class PromptCache:
    """A :class:`PromptLru` that joins concurrent requests for one key. Event loop only."""

    def __init__(
        self, max_count: int, max_bytes: int, ttl_s: float, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._lru = PromptLru(max_count, max_bytes, ttl_s, self._count_eviction)
        self._encoding: dict[Key, asyncio.Task[VoicePrompt]] = {}
        # Keys in ``_encoding`` of voices that were deleted since: their prompts are not kept.
        self._deleted: set[Key] = set()

    async def get(self, key: Key, encode: Callable[[], Awaitable[VoicePrompt]]) -> VoicePrompt:
        """From memory, or encoded once for all concurrent callers; a cancelled caller does not stop it.

        Raises, in every caller, what ``encode`` raises; a failure is not kept.
        """
        cached = self._lru.get(key, self._clock())
        task = self._encoding.get(key)
        result = "hit" if cached else "joined" if task else "miss"
        self._metrics.voice_cache.labels(result=result).inc()
        self._measure()
        return cached or await _result_of(task or self._start(key, encode))

    def discard(self, voice_id: str) -> None:
        """Drop the prompts of a deleted voice, also those still being encoded."""
        self._deleted.update(key for key in self._encoding if key[0] == voice_id)
        self._lru.discard(voice_id)
        self._measure()

    async def close(self) -> None:
        """Cancel the running encodings; their callers get TtsUnavailable."""
        tasks = list(self._encoding.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Key, encode: Callable[[], Awaitable[VoicePrompt]]) -> asyncio.Task[VoicePrompt]:
        task = self._encoding[key] = asyncio.create_task(self._encode(key, encode))
        task.add_done_callback(partial(self._forget, key))
        return task

    async def _encode(self, key: Key, encode: Callable[[], Awaitable[VoicePrompt]]) -> VoicePrompt:
        prompt = await encode()
        if key not in self._deleted:
            self._lru.put(key, prompt, self._clock())
            self._measure()
        return prompt

    def _forget(self, key: Key, task: asyncio.Task[VoicePrompt]) -> None:
        del self._encoding[key]
        self._deleted.discard(key)
        if not task.cancelled():
            task.exception()  # retrieved, else asyncio logs a failure whose callers were all cancelled

    def _count_eviction(self, reason: Reason) -> None:
        self._metrics.voice_cache_evictions.labels(reason=reason).inc()

    def _measure(self) -> None:
        self._metrics.voice_cache_bytes.set(self._lru.size_bytes)


async def _result_of(task: asyncio.Task[VoicePrompt]) -> VoicePrompt:
    """Shielded: cancelling one caller does not cancel the encoding for the others."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise TtsUnavailable("The service is shutting down.") from None
        raise


def prompt_key(clip: BufferedIOBase, *dependencies: str | None) -> str:
    """sha256 over the clip's bytes and all else that the prompt depends on. Leaves ``clip`` at its start."""
    digest = hashlib.sha256(hashlib.file_digest(clip, "sha256").digest())
    clip.seek(0)
    for dependency in dependencies:
        # Each with its length: otherwise two different lists could concatenate to the same bytes.
        encoded = b"-" if dependency is None else b"+" + dependency.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.hexdigest()


class PromptStore:
    """Prompts on disk, at most ``max_bytes``: the least recently used go. Blocks; any thread may call it."""

    def __init__(self, cache_dir: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = cache_dir / "voices"
        self._max_bytes = max_bytes
        self._warned = False
        # One writer at a time: an unfinished file that exists while this lock is free is a leftover.
        self._write_lock = threading.Lock()

    def load(self, key: str, fingerprint: str) -> VoicePrompt | None:
        """None if it is missing or unreadable: then the voice is encoded again and the file overwritten."""
        path = self._path(key)
        try:
            prompt = _read(path)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            _log.warning("voice_cache_file_unreadable", file=path.name, error=type(error).__name__)
            return None
        with suppress(OSError):
            os.utime(path)
        return prompt if prompt.fingerprint == fingerprint else None

    def save(self, key: str, prompt: VoicePrompt) -> None:
        """Atomic. A folder that cannot be written is logged once, and is not an error."""
        try:
            with self._write_lock:
                self._write(key, prompt)
                self._prune()
        except OSError as error:
            if not self._warned:
                _log.warning("voice_cache_not_writable", reason=error.strerror, kept="in memory only")
            self._warned = True

    def discard(self, key: str) -> None:
        with self._write_lock, suppress(OSError):
            self._path(key).unlink()

    def sweep(self) -> None:
        """Remove the unfinished files of a process that died."""
        with self._write_lock:
            for leftover in self._folder.glob(".*"):
                with suppress(OSError):
                    leftover.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _write(self, key: str, prompt: VoicePrompt) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{secrets.token_hex(8)}"
        tensors = {name: np.asarray(tensor, order="C") for name, tensor in prompt.tensors.items()}
        try:
            unfinished.write_bytes(save(tensors, {_FINGERPRINT: prompt.fingerprint}))
            unfinished.replace(self._path(key))
        finally:
            unfinished.unlink(missing_ok=True)

    def _prune(self) -> None:
        files = [(path, path.stat()) for path in self._folder.glob(f"*{_SUFFIX}")]
        excess_bytes = sum(status.st_size for _, status in files) - self._max_bytes
        for path, status in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if excess_bytes <= 0:
                return
            path.unlink(missing_ok=True)
            excess_bytes -= status.st_size


def _read(path: Path) -> VoicePrompt:
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return VoicePrompt((file.metadata() or {})[_FINGERPRINT], tensors)
