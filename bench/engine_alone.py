"""The engine without a service around it: how soon a voice is ready, how soon a place is free.

In: a loaded model. Out: milliseconds, steps. Does not know: sockets, how fast a step is.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from bench.sides import Clock, Figures
from bench.voice import LANGUAGE, TEXT, VOICE, write_voice
from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine
from makima_tts.engines.qwen3.prompts import LoadedVoice, LoadedVoices
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner
from makima_tts.engines.qwen3.utterance import Lease, Slots
from makima_tts.metrics import Metrics
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt
from makima_tts.voices import VoiceLibrary, VoiceManager

STREAMS = 2
CANCELS = 3
READIES = 5
_PLENTY = 2**30
_PATIENCE_S = 60.0
_PREFIX_KEY = (LANGUAGE, True)


class _Loaded(Qwen3Engine):
    """Around a model that is there."""

    def __init__(self, model: SpeechModel, folder: Path) -> None:
        super().__init__(ModelChoice(str(folder)), streams=STREAMS, admission="slots")
        self._model = model

    def _load(self, tell: Callable[[str, float], None]) -> SpeechModel:
        return self._model


class _Watch:
    """When a place becomes free, and how many steps begin until then."""

    def __init__(self) -> None:
        self.steps = 0
        self._begun = 0
        self._freed_s = 0.0
        self._freed = threading.Event()

    def begin_s(self) -> float:
        self._begun = 0
        self._freed.clear()
        return time.perf_counter()

    def freed_s(self) -> float:
        assert self._freed.wait(_PATIENCE_S), "the engine has stopped"
        return self._freed_s

    @contextmanager
    def watching(self) -> Iterator[None]:
        release, generate = Slots.release, Runner.generate_frames

        def released(slots: Slots, lease: Lease) -> None:
            release(slots, lease)
            self._freed_s, self.steps = time.perf_counter(), self._begun
            self._freed.set()

        def generated(*arguments: Any) -> PendingResult[GeneratedFrames]:
            self._begun += 1
            return generate(*arguments)

        with (
            mock.patch.object(Slots, "release", released),
            mock.patch.object(Runner, "generate_frames", generated),
        ):
            yield


class EngineAlone:
    """``runner``: into whose first slot voices are put."""

    def __init__(self, model: SpeechModel, folder: Path, runner: Runner) -> None:
        self._model = model
        self._checkpoint = folder
        self._runner = runner
        self._clock = Clock(model.device)
        self._sampling = Sampling.of(model.config.generation)
        self._folder = TemporaryDirectory(prefix="makima-tts-bench-")
        self._place = Path(self._folder.name)
        write_voice(self._place / "voices")

    def measure(self) -> Figures:
        return asyncio.run(self._measure())

    async def _measure(self) -> Figures:
        engine = _Loaded(self._model, self._checkpoint)
        await engine.start(lambda _progress: None)
        try:
            voices = self._voices(engine)
            prompt = (await voices.get(VOICE)).prompt
            assert prompt is not None
            figures = await self._readiness(engine, voices)
            return figures | await _cancels(engine, prompt)
        finally:
            await engine.close()

    def _voices(self, engine: Qwen3Engine) -> VoiceManager:
        """As a restart finds them: nothing in memory, on disk what was encoded once."""
        library = VoiceLibrary(self._place / "voices", shipped_dir=self._place / "none", max_voices=9)
        return VoiceManager(
            library,
            engine,
            cache_dir=self._place / "cache",
            max_count=9,
            max_bytes=_PLENTY,
            ttl_s=3600.0,
            default_voice=VOICE,
            metrics=Metrics(),
        )

    async def _readiness(self, engine: Qwen3Engine, voices: VoiceManager) -> Figures:
        """From a voice's name to everything of it in a slot, but for rows that nobody has read yet."""
        loaded = LoadedVoices(self._model)
        self._prefill_prefix(loaded.get((await voices.get(VOICE)).prompt))
        cached_ms = [await self._ready_ms(voices, loaded) for _ in range(READIES)]
        from_disk_ms = [
            await self._ready_ms(self._voices(engine), LoadedVoices(self._model)) for _ in range(READIES)
        ]
        return {
            "voice in memory, ready, ms": median(cached_ms),
            "voice on disk, ready, ms": median(from_disk_ms),
        }

    async def _ready_ms(self, voices: VoiceManager, loaded: LoadedVoices) -> float:
        began_ms = self._clock.now_ms()
        voice = loaded.get((await voices.get(VOICE)).prompt)
        self._begin(voice)
        if (prefix := voice.prefix(_PREFIX_KEY)) is not None:
            self._runner.restore_prefix(0, prefix)
        return self._clock.now_ms() - began_ms

    def _prefill_prefix(self, voice: LoadedVoice) -> None:
        self._begin(voice)
        ids = self._model.tokenizer.encode(TEXT)
        prompt = self._model.prompts.write(ids, LANGUAGE, voice.encoded.rows)
        self._runner.prefill(self._runner.prefill_chunks(0, prompt)).wait()
        voice.keep_prefix(_PREFIX_KEY, self._runner.prefix(0, len(prompt.voice_prefix)))

    def _begin(self, voice: LoadedVoice) -> None:
        self._runner.begin(0, self._sampling, 0, voice.encoded.codec)


async def _cancels(engine: Qwen3Engine, voice: VoicePrompt) -> Figures:
    """One of those who speak is cancelled: until its place is free, and the steps that began meanwhile."""
    took_ms, steps = [], []
    watch = _Watch()
    with watch.watching():
        for number in range(CANCELS):
            other = asyncio.create_task(_hear(_open(engine, voice, number)))
            cancelled = _open(engine, voice, -number)
            await _into_a_step(cancelled, (number + 0.5) / CANCELS)
            began_s = watch.begin_s()
            cancelled.cancel()
            took_ms.append((await asyncio.to_thread(watch.freed_s) - began_s) * 1e3)
            steps.append(watch.steps)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
    return {"cancel to a free place, ms": median(took_ms), "cancel to a free place, steps": median(steps)}


async def _into_a_step(stream: SpeechStream, share: float) -> None:
    """Until such a share of a step has passed after a chunk."""
    await anext(stream)
    began_s = time.perf_counter()
    await anext(stream)
    await asyncio.sleep(share * (time.perf_counter() - began_s))


def _open(engine: Qwen3Engine, voice: VoicePrompt, seed: int) -> SpeechStream:
    stream = engine.open(UtteranceRequest(f"{seed}", LANGUAGE, voice, seed))
    for _ in range(9):
        stream.feed(TEXT)
    stream.finish()
    return stream


async def _hear(stream: SpeechStream) -> None:
    try:
        async for _chunk in stream:
            pass
    finally:
        stream.cancel()
