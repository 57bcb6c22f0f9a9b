"""Our model, measured module by module as the engine runs it.

In: requests of ``bench.compare``, or calls of the GPU's measurements. Out: milliseconds, steps. Does not
know: the reference package, the service.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from bench.server import ANYWHERE
from bench.sides import CHUNK_FRAMES, Clock, Figures, answer_requests, frames_of
from bench.voice import LANGUAGE, SAMPLE_RATE_HZ, TEXT, TRANSCRIPT, VOICE, clip, write_voice
from makima_tts import factory
from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine, SynthesisOptions
from makima_tts.engines.qwen3.loop import EngineLoop
from makima_tts.engines.qwen3.prompts import LoadedVoice, LoadedVoices
from makima_tts.engines.qwen3.runner import Runner, bytes_in
from makima_tts.engines.qwen3.utterance import EngineUtterance
from makima_tts.metrics import Metrics
from makima_tts.model import CpuPrecision, sampling
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.devices import device_of, precision_on
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.voice_encoding import Arrays, encode_voice, voice_from
from makima_tts.settings import Settings
from makima_tts.speech import SpeechStream, UtteranceRequest, VoicePrompt, VoiceReference
from makima_tts.voices import VoiceManager

POSITIONS = 512
WARM_UP_FRAMES = 4
TOP_OPERATORS = 10
CANCELS = 3
READIES = 5
_TIMEOUT_S = 60.0
_PREFIX_KEY = (LANGUAGE, True)
_REST = "the rest"
_SAMPLING = ("sample", "penalize", "forbid", "uniform")


def load_model(folder: Path, device: str, precision: CpuPrecision, *, positions: int) -> SpeechModel:
    place = device_of(device)
    how = precision_on(place, ANYWHERE.get(precision, "auto"), precision)
    return SpeechModel.load(
        Checkpoint.open(folder),
        place,
        how.dtype,
        positions=positions,
        weight_bits=how.weight_bits,
    )


def encode(model: SpeechModel) -> tuple[Arrays, list[float]]:
    """The measured voice, and the milliseconds of each slice of its encoding."""
    reference = VoiceReference(clip(), SAMPLE_RATE_HZ, TRANSCRIPT, LANGUAGE, mode="icl")
    slices = encode_voice(model, reference, appended_silence_s=0.0)
    clock, slices_ms = Clock(model.device), list[float]()
    while True:
        began_ms = clock.now_ms()
        try:
            next(slices)
        except StopIteration as end:
            arrays: Arrays = end.value
            return arrays, slices_ms
        finally:
            slices_ms.append(clock.now_ms() - began_ms)


class Ledger:
    """Charges time to the innermost part that runs: a part within another is not charged to the other."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._running = [_REST]
        self._since_ms = clock.now_ms()
        self.spent_ms: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        self.charge()
        self._running.append(part)
        try:
            yield
        finally:
            self.charge()
            self._running.pop()

    def charge(self) -> None:
        now_ms = self.clock.now_ms()
        self.spent_ms[self._running[-1]] += now_ms - self._since_ms
        self._since_ms = now_ms

    def charging(self, owner: Any, name: str, part: str) -> Any:
        """A context in which every call of this function is charged to ``part``."""
        function = getattr(owner, name)

        def charged(*arguments: Any, **named: Any) -> Any:
            with self.running(part):
                return function(*arguments, **named)

        return mock.patch.object(owner, name, charged)


def _functions_of_parts(model: SpeechModel) -> Iterator[tuple[Any, str, str]]:
    yield type(model.talker), "step", "talker"
    yield type(model.talker), "logits", "talker"
    yield type(model.predictor), "predict", "code predictor"
    yield type(model.codec), "decode", "codec"
    for name in _SAMPLING:
        yield sampling, name, "sampling"


def profiled(run: Callable[[], object]) -> Any:
    """Torch's profile of a call."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        run()
    return found.key_averages()


def top(events: Sequence[Any], count: int) -> list[tuple[str, float, int]]:
    """Operators or kernels: name, own milliseconds, calls; those that take most first."""
    own_us = {each.key: float(each.self_device_time_total or each.self_cpu_time_total) for each in events}
    calls = {each.key: each.count for each in events}
    longest = sorted(own_us, key=lambda name: -own_us[name])[:count]
    return [(name, own_us[name] / 1e3, calls[name]) for name in longest]


class Ours:
    """``warm-up`` comes first: it encodes a voice, and does everything once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._model = load_model(options.checkpoint, options.device, options.precision, positions=POSITIONS)
        self.clock = Clock(self._model.device)
        self._frames = options.frames
        self.runner = Runner(self._model, slots=options.slots, positions=POSITIONS)
        self._checkpoint = options.checkpoint
        self._sampling = Sampling.of(self._model.config.generation)

    def measure(self, what: str, size: int) -> Figures:
        measurements: dict[str, Callable[[], Figures]] = {
            "warm-up": self._warm_up,
            "voice": self._measure_voice,
            "prompt": self._measure_prompt,
            "prefill": partial(self._measure_prefill, size),
            "first": self._measure_first,
            "step": partial(self._measure_step, size),
            "engine": lambda: asyncio.run(self._measure_engine()),
            "profile": partial(self._measure_profile, size),
            "memory": self._measure_memory,
        }
        return measurements[what]() if what in measurements else {}

    def _warm_up(self) -> Figures:
        arrays, _ = encode(self._model)
        self._voice = voice_from(self._model, arrays)
        self._begin(0)
        prompt = self._prompt()
        self.runner.prefill(self.runner.prefill_chunks(0, prompt)).wait()
        self._constant = self.runner.prefix(0, len(prompt.voice_prefix))
        self.speak(self.fill(1), 2)
        return {}

    def _measure_voice(self) -> Figures:
        """With the codec's state after the clip, which the reference computes again for every utterance."""
        with self.clock.timing(type(self._model.codec), "decode") as decode_ms:
            _, slices_ms = encode(self._model)
        return {
            "voice encoding, ms": sum(slices_ms),
            "voice encoding, codes and x-vector, ms": sum(slices_ms) - sum(decode_ms),
            "voice encoding, longest slice, ms": max(slices_ms),
        }

    def _measure_prompt(self) -> Figures:
        """Its prefill for a new voice, and with the voice prefix cached."""
        prompt = self._prompt()
        began_ms = self.clock.now_ms()
        self.runner.prefill(self.runner.prefill_chunks(0, prompt)).wait()
        first_ms = self.clock.now_ms()
        self._prefill(0)
        ended_ms = self.clock.now_ms()
        return {
            "prompt, a voice's first, ms": first_ms - began_ms,
            "prompt, the voice has spoken, ms": ended_ms - first_ms,
        }

    def _measure_prefill(self, rows: int) -> Figures:
        """Of so many rows, none of them cached."""
        some = self._prompt().rows
        prompt = Prompt(some[:0], some.repeat(-(-rows // len(some)), 1)[:rows], some[:1])
        began_ms = self.clock.now_ms()
        self.runner.prefill(self.runner.prefill_chunks(0, prompt, prefix_cached=True)).wait()
        return {"prefill, ms": self.clock.now_ms() - began_ms}

    def _measure_first(self) -> Figures:
        """From a text to the samples of its first frame, in the host's memory."""
        began_ms = self.clock.now_ms()
        self._begin(0)
        position = self._prefill(0)
        self.runner.generate_frames([0], [], position, [0]).wait()
        self.runner.decode([0], 1).wait()
        return {"text to first chunk, ms": self.clock.now_ms() - began_ms}

    def _measure_step(self, batch: int) -> Figures:
        frames, model = frames_of(batch, self._frames), self._model
        steps_ms = self.speak(utterances := self.fill(batch), frames)
        with (
            self.clock.timing(type(model.talker), "step") as talker_ms,
            self.clock.timing(type(model.predictor), "predict") as predictor_ms,
            self.clock.timing(type(model.codec), "decode") as codec_ms,
        ):
            self.speak(utterances, frames)
        return {
            "whole step, ms": median(steps_ms),
            "talker, ms": median(talker_ms),
            "code predictor, ms": median(predictor_ms),
            "codec, ms": median(codec_ms),
            f"codec, a frame of {CHUNK_FRAMES} at once, ms": self.decode_ms(batch) / CHUNK_FRAMES,
        }

    def _measure_profile(self, batch: int) -> Figures:
        """The parts of a whole step, which add up to it, and the operators that take most of the time."""
        frames, utterances, ledger = frames_of(batch, self._frames), self.fill(batch), Ledger(self.clock)
        with ExitStack() as stack:
            for owner, name, part in _functions_of_parts(self._model):
                stack.enter_context(ledger.charging(owner, name, part))
            ledger.charge()
            ledger.spent_ms.clear()
            self.speak(utterances, frames)
            ledger.charge()
        parts = {f"a frame's {part}, ms": ms / frames for part, ms in ledger.spent_ms.items()}
        operators = top(profiled(lambda: self.speak(utterances, frames)), TOP_OPERATORS)
        return parts | {f"operator {name}, ms": ms / frames for name, ms, _calls in operators}

    async def _measure_engine(self) -> Figures:
        """Without a service around it: how soon a voice is ready, how soon a slot is free."""
        with (
            TemporaryDirectory(prefix="makima-tts-bench-") as folder,
            mock.patch.object(Qwen3Engine, "_load", return_value=self._model),
        ):
            engine = Qwen3Engine(ModelChoice(str(self._checkpoint)), streams=2, admission="slots")
            voices_dir, cache_dir = write_voice(Path(folder) / "voices"), Path(folder) / "cache"
            settings = Settings(voices_dir=voices_dir, cache_dir=cache_dir, default_voice=VOICE)
            # As a restart finds them: nothing in memory, on disk what was encoded once.
            new_voices = partial(factory.build_voices, settings, engine, Metrics())
            async with factory.running(engine):
                voices, loaded = new_voices(), LoadedVoices(self._model)
                prompt = (await voices.get(VOICE)).prompt
                assert prompt is not None
                self._keep_prefix(loaded.get(prompt))
                memory_ms = [await self._ready_ms(voices, loaded) for _ in range(READIES)]
                disk_ms = [
                    await self._ready_ms(new_voices(), LoadedVoices(self._model)) for _ in range(READIES)
                ]
                ready = {
                    "voice in memory, ready, ms": median(memory_ms),
                    "voice on disk, ready, ms": median(disk_ms),
                }
                return ready | await _measure_cancels(engine, prompt)

    def _keep_prefix(self, voice: LoadedVoice) -> None:
        self.runner.begin(0, self._sampling, 0, voice.encoded.codec)
        ids = self._model.tokenizer.encode(TEXT)
        prompt = self._model.prompts.write(ids, LANGUAGE, voice.encoded.rows)
        self.runner.prefill(self.runner.prefill_chunks(0, prompt)).wait()
        voice.keep_prefix(_PREFIX_KEY, self.runner.prefix(0, len(prompt.voice_prefix)))

    async def _ready_ms(self, voices: VoiceManager, loaded: LoadedVoices) -> float:
        """From a voice's name to everything of it in a slot, but for rows that were not prefilled yet."""
        began_ms = self.clock.now_ms()
        voice = loaded.get((await voices.get(VOICE)).prompt)
        self.runner.begin(0, self._sampling, 0, voice.encoded.codec)
        if (prefix := voice.prefix(_PREFIX_KEY)) is not None:
            self.runner.restore_prefix(0, prefix)
        return self.clock.now_ms() - began_ms

    def _measure_memory(self) -> Figures:
        """``a stream``: the state of a slot; a CPU allocates it as it is used."""
        positions = SynthesisOptions().positions
        state = self._model.frames.new_state(1, positions, positions)
        state_bytes = bytes_in(state) + bytes_in(self._model.codec.new_state(1))
        return {
            "memory of a stream, at most, MiB": state_bytes / 2**20,
            "peak memory, MiB": self.clock.peak_mib(),
        }

    def fill(self, batch: int) -> "Utterances":
        """So many utterances whose prompts are prefilled."""
        for slot in range(batch):
            self._begin(slot)
            position = self._prefill(slot)
        return Utterances(batch, position)

    def speak(self, utterances: "Utterances", frames: int) -> list[float]:
        """Generate and decode so many frames of each: the milliseconds of each step but for a first frame."""
        slots, steps_ms = range(utterances.batch), list[float]()
        for _ in range(frames + utterances.is_new):
            began_ms = time.perf_counter() * 1e3
            stepped = [] if utterances.is_new else slots
            self.runner.generate_frames(slots, stepped, utterances.position, [0] * utterances.batch).wait()
            self.runner.decode(slots, 1).wait()
            if not utterances.is_new:
                steps_ms.append(time.perf_counter() * 1e3 - began_ms)
            utterances.is_new = False
            utterances.position += 1
        return steps_ms

    def decode_ms(self, batch: int) -> float:
        """The time to decode the largest chunk of each."""
        began_ms = self.clock.now_ms()
        self.runner.decode(range(batch), CHUNK_FRAMES).wait()
        return self.clock.now_ms() - began_ms

    def _begin(self, slot: int) -> None:
        self.runner.begin(slot, self._sampling, slot, self._voice.codec)

    def _prefill(self, slot: int) -> int:
        """The position after the prompt."""
        prompt = self._prompt()
        self.runner.restore_prefix(slot, self._constant)
        self.runner.prefill(self.runner.prefill_chunks(slot, prompt, prefix_cached=True)).wait()
        return len(prompt.rows)

    def _prompt(self) -> Prompt:
        return self._model.prompts.write(self._model.tokenizer.encode(TEXT), LANGUAGE, self._voice.rows)


@dataclass(slots=True)
class Utterances:
    """A batch in the same state. ``position``: of the next frame. ``is_new``: no frame was generated yet."""

    batch: int
    position: int
    is_new: bool = True


async def _measure_cancels(engine: Qwen3Engine, voice: VoicePrompt) -> Figures:
    """One of two utterances is cancelled: until its slot is free, and the steps that began meanwhile."""
    steps_s, freed = list[float](), SimpleQueue[float]()
    release, generate = EngineLoop._leave, Runner.generate_frames
    took_ms, steps = list[float](), list[int]()

    def released(loop: EngineLoop, utterance: EngineUtterance) -> None:
        release(loop, utterance)
        freed.put(time.perf_counter())

    def generated(*arguments: Any) -> Any:
        steps_s.append(time.perf_counter())
        return generate(*arguments)

    with (
        mock.patch.object(EngineLoop, "_leave", released),
        mock.patch.object(Runner, "generate_frames", generated),
    ):
        for number in range(CANCELS):
            other, cancelled = (_open(engine, voice, seed) for seed in (number, -number))
            listening = asyncio.create_task(_listen(other))
            await _into_a_step(cancelled, (number + 0.5) / CANCELS)
            began_s = time.perf_counter()
            cancelled.cancel()
            while (freed_s := await asyncio.to_thread(freed.get, timeout=_TIMEOUT_S)) < began_s:
                pass  # that of an earlier utterance
            took_ms.append((freed_s - began_s) * 1e3)
            steps.append(sum(began_s < at_s < freed_s for at_s in steps_s))
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    return {"cancel to a free place, ms": median(took_ms), "cancel to a free place, steps": median(steps)}


async def _into_a_step(stream: SpeechStream, share: float) -> None:
    """Waits until this share of a step has passed after a chunk."""
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


async def _listen(stream: SpeechStream) -> None:
    try:
        async for _chunk in stream:
            pass
    finally:
        stream.cancel()


if __name__ == "__main__":
    answer_requests(lambda options: Ours(options).measure)
