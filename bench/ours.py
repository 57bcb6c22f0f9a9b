"""Our model, measured part by part as the engine runs it.

In: requests of ``bench.compare``. Out: milliseconds. Does not know: the reference package, the service.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bench import sides
from bench.engine_alone import EngineAlone
from bench.frame_time import top_operators, where_time_goes
from bench.loading import load_model
from bench.sides import CHUNK_FRAMES, LANGUAGE, TEXT, Clock, Figures, frames_of, median
from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.engines.qwen3.executors import bytes_in
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import Sampling
from makima_tts.model.voice_encoding import Arrays, encode_voice, voice_from
from makima_tts.speech import VoiceReference

POSITIONS = 512


@dataclass(slots=True)
class _Parts:
    """The milliseconds of every call."""

    talker: list[float]
    predictor: list[float]
    codec: list[float]


class Ours:
    """A side. ``warm-up`` comes before everything else: a voice is encoded, and everything is done once."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._model = load_model(given.checkpoint, given.device, given.precision, positions=POSITIONS)
        self._clock = Clock(self._model.device)
        self._frames = given.frames
        self._runner = Runner(self._model, slots=given.slots, positions=POSITIONS, text_rows=POSITIONS)
        self._engine = EngineAlone(self._model, given.checkpoint, self._runner)
        self._sampling = Sampling.of(self._model.config.generation)

    def measure(self, part: str, size: int) -> Figures:
        parts: dict[str, Callable[[], Figures]] = {
            "warm-up": self._warm_up,
            "voice": self._measure_voice,
            "prompt": self._measure_prompt,
            "prefill": partial(self._measure_prefill, size),
            "first": self._measure_first,
            "step": partial(self._measure_step, size),
            "engine": self._engine.measure,
            "profile": partial(self._profile, size),
            "memory": self._measure_memory,
        }
        return parts[part]() if part in parts else {}

    def _warm_up(self) -> Figures:
        arrays, _ = self._encoded()
        self._voice = voice_from(self._model, arrays)
        self._begin(0)
        prompt = self._prompt()
        self._runner.prefill(self._runner.prefill_chunks(0, prompt)).wait()
        self._constant = self._runner.prefix(0, len(prompt.voice_prefix))
        self._speak(self._fill(1), 2)
        return {}

    def _measure_voice(self) -> Figures:
        """With the codec's state after the clip, which the reference makes anew for every utterance."""
        with self._clock.watching(type(self._model.codec), "decode") as decode_ms:
            _, slices_ms = self._encoded()
        return {
            "voice encoding, ms": sum(slices_ms),
            "voice encoding, codes and x-vector, ms": sum(slices_ms) - sum(decode_ms),
            "voice encoding, longest slice, ms": max(slices_ms),
        }

    def _encoded(self) -> tuple[Arrays, list[float]]:
        """The voice, and how long each slice of the work took."""
        reference = VoiceReference(sides.clip(), sides.SAMPLE_RATE_HZ, sides.TRANSCRIPT, LANGUAGE, mode="icl")
        slices = encode_voice(self._model, reference, appended_silence_s=0.0)
        slices_ms: list[float] = []
        while True:
            began_ms = self._clock.now_ms()
            try:
                next(slices)
            except StopIteration as end:
                arrays: Arrays = end.value
                return arrays, slices_ms
            finally:
                slices_ms.append(self._clock.now_ms() - began_ms)

    def _measure_prompt(self) -> Figures:
        """Reading it when the voice has never spoken, and when it has."""
        prompt = self._prompt()
        began_ms = self._clock.now_ms()
        self._runner.prefill(self._runner.prefill_chunks(0, prompt)).wait()
        first_ms = self._clock.now_ms()
        self._read(0)
        ended_ms = self._clock.now_ms()
        return {
            "prompt, a voice's first, ms": first_ms - began_ms,
            "prompt, the voice has spoken, ms": ended_ms - first_ms,
        }

    def _measure_prefill(self, rows: int) -> Figures:
        """So many rows, none of them known before."""
        some = self._prompt().rows
        prompt = Prompt(some[:0], some.repeat(-(-rows // len(some)), 1)[:rows], some[:1])
        began_ms = self._clock.now_ms()
        self._runner.prefill(self._runner.prefill_chunks(0, prompt, prefix_cached=True)).wait()
        return {"prefill, ms": self._clock.now_ms() - began_ms}

    def _measure_first(self) -> Figures:
        """From a text to the samples of its first frame, in the host's memory."""
        began_ms = self._clock.now_ms()
        self._begin(0)
        furthest = self._read(0)
        self._runner.generate_frames([0], [], furthest, [0]).wait()
        self._runner.decode([0], 1).wait()
        return {"text to first chunk, ms": self._clock.now_ms() - began_ms}

    def _measure_step(self, batch: int) -> Figures:
        frames = frames_of(batch, self._frames)
        steps_ms = self._speak(at := self._fill(batch), frames)
        with self._parts() as parts:
            self._speak(at, frames)
        began_ms = self._clock.now_ms()
        self._runner.decode(range(batch), CHUNK_FRAMES).wait()
        chunk_ms = self._clock.now_ms() - began_ms
        return {
            "whole step, ms": median(steps_ms),
            "talker, ms": median(parts.talker),
            "code predictor, ms": median(parts.predictor),
            "codec, ms": median(parts.codec),
            f"codec, a frame of {CHUNK_FRAMES} at once, ms": chunk_ms / CHUNK_FRAMES,
        }

    @contextmanager
    def _parts(self) -> Iterator[_Parts]:
        model, watching = self._model, self._clock.watching
        with (
            watching(type(model.talker), "step") as talker_ms,
            watching(type(model.predictor), "predict") as predictor_ms,
            watching(type(model.codec), "decode") as codec_ms,
        ):
            yield _Parts(talker_ms, predictor_ms, codec_ms)

    def _profile(self, batch: int) -> Figures:
        """Parts of a whole step, which add up to it, and the operators that take most of the time."""
        frames, at = frames_of(batch, self._frames), self._fill(batch)
        shares = where_time_goes(self._clock, self._model, lambda: self._speak(at, frames), frames)
        return shares | top_operators(lambda: self._speak(at, frames), frames)

    def _measure_memory(self) -> Figures:
        """``a stream``: what its slot in an engine may hold; a CPU gives it memory as it is used."""
        positions = SynthesisOptions().positions
        state = self._model.frames.new_state(1, positions, positions)
        taken = bytes_in(state) + bytes_in(self._model.codec.new_state(1))
        return {"memory of a stream, at most, MiB": taken / 2**20, "peak memory, MiB": self._clock.peak_mib()}

    def _fill(self, batch: int) -> "Places":
        """So many utterances, whose prompts are read."""
        for slot in range(batch):
            self._begin(slot)
            furthest = self._read(slot)
        return Places(batch, furthest)

    def _speak(self, at: "Places", frames: int) -> list[float]:
        """All of them speak on: the milliseconds of each step but for a first frame."""
        slots, steps_ms = range(at.batch), list[float]()
        for _ in range(frames + at.fresh):
            began_ms = time.perf_counter() * 1e3
            self._runner.generate_frames(slots, [] if at.fresh else slots, at.furthest, [0] * at.batch).wait()
            self._runner.decode(slots, 1).wait()
            if not at.fresh:
                steps_ms.append(time.perf_counter() * 1e3 - began_ms)
            at.advance()
        return steps_ms

    def _begin(self, slot: int) -> None:
        self._runner.begin(slot, self._sampling, slot, self._voice.codec)

    def _read(self, slot: int) -> int:
        """The position after the prompt."""
        prompt = self._prompt()
        self._runner.restore_prefix(slot, self._constant)
        self._runner.prefill(self._runner.prefill_chunks(slot, prompt, prefix_cached=True)).wait()
        return len(prompt.rows)

    def _prompt(self) -> Prompt:
        return self._model.prompts.write(self._model.tokenizer.encode(TEXT), LANGUAGE, self._voice.rows)


@dataclass(slots=True)
class Places:
    """Where a batch of utterances stands. ``fresh``: the next frame is their first."""

    batch: int
    furthest: int
    fresh: bool = True

    def advance(self) -> None:
        self.fresh = False
        self.furthest += 1


if __name__ == "__main__":
    sides.answer_requests(Ours)
