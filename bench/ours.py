"""Our model, measured part by part as the engine runs it.

In: requests of ``bench.model``. Out: milliseconds. Does not know: the reference package.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

from bench import sides
from bench.sides import CHUNK_FRAMES, LANGUAGE, TEXT, Clock, Figures, median
from makima_tts.engine.runner import Runner
from makima_tts.model.checkpoint import Checkpoint
from makima_tts.model.code_predictor import CodePredictor
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.devices import device_of
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.talker import Talker
from makima_tts.model.voice_encoding import Arrays, encode_voice, voice_from
from makima_tts.speech import VoiceReference

POSITIONS = 256


class Ours:
    """A side. ``warm-up`` comes before everything else: a voice is encoded, and everything is done once."""

    def __init__(self, given: argparse.Namespace) -> None:
        device = device_of(given.device)
        self._clock = Clock(device)
        self._frames = given.frames
        checkpoint = Checkpoint.open(given.checkpoint)
        self._model = SpeechModel.load(
            checkpoint, device, sides.dtype_named(given.precision), positions=POSITIONS
        )
        slots = given.slots
        self._runner = Runner(self._model, slots=slots, positions=POSITIONS, text_rows=POSITIONS)
        self._sampling = Sampling.of(self._model.config.generation)

    def _warm_up(self) -> Figures:
        arrays, _ = self._encoded()
        self._voice = voice_from(self._model, arrays)
        self._begin(0)
        self._constant = self._runner.read_constant(0, self._prompt())
        self._speak(1, 2)
        return {}

    def measure(self, part: str, batch: int) -> Figures:
        parts: dict[str, Callable[[], Figures]] = {
            "warm-up": self._warm_up,
            "voice": self._measure_voice,
            "prompt": self._measure_prompt,
            "first": self._measure_first,
            "step": partial(self._measure_step, batch),
            "parts": partial(self._measure_parts, batch),
            "memory": lambda: {"peak memory, MiB": self._clock.peak_mib()},
        }
        return parts[part]()

    def _measure_voice(self) -> Figures:
        """With the codec's state after the clip, which the reference makes anew for every utterance."""
        with self._clock.watching(CodecDecoder, "decode") as decode_ms:
            _, slices_ms = self._encoded()
        return {
            "voice encoding": sum(slices_ms),
            "voice encoding, codes and x-vector": sum(slices_ms) - sum(decode_ms),
            "voice encoding, longest slice": max(slices_ms),
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
        self._runner.read_constant(0, prompt)
        constant_ms = self._clock.now_ms()
        self._runner.put_constant(0, self._constant)
        self._runner.read(0, prompt)
        ended_ms = self._clock.now_ms()
        return {
            "prefill, a voice's first": ended_ms - began_ms,
            "prefill, the voice has spoken": ended_ms - constant_ms,
        }

    def _measure_first(self) -> Figures:
        """From a text to the samples of its first frame, in the host's memory."""
        began_ms = self._clock.now_ms()
        self._begin(0)
        furthest = self._read(0)
        self._runner.make([0], [], furthest, [0])
        self._runner.decode([0], 1)
        return {"text to first chunk": self._clock.now_ms() - began_ms}

    def _measure_step(self, batch: int) -> Figures:
        return {"whole step": median(self._speak(batch, self._frames))}

    def _measure_parts(self, batch: int) -> Figures:
        watching = self._clock.watching
        with (
            watching(Talker, "step") as talker_ms,
            watching(CodePredictor, "predict") as predictor_ms,
            watching(CodecDecoder, "decode") as codec_ms,
        ):
            self._speak(batch, self._frames)
        began_ms = self._clock.now_ms()
        self._runner.decode(range(batch), CHUNK_FRAMES)
        chunk_ms = self._clock.now_ms() - began_ms
        return {
            "talker": median(talker_ms),
            "code predictor": median(predictor_ms[1:]),
            "codec": median(codec_ms[1:]),
            f"codec, {CHUNK_FRAMES} frames at once": chunk_ms / CHUNK_FRAMES,
        }

    def _speak(self, batch: int, frames: int) -> list[float]:
        """So many utterances speak together: the milliseconds of each step after the first."""
        slots, steps_ms = range(batch), list[float]()
        for slot in slots:
            self._begin(slot)
            furthest = self._read(slot)
        for frame in range(frames + 1):
            began_ms = time.perf_counter() * 1e3
            self._runner.make(slots, slots if frame else [], furthest + frame, [0] * batch)
            self._runner.decode(slots, 1)
            steps_ms.append(time.perf_counter() * 1e3 - began_ms)
        return steps_ms[1:]

    def _begin(self, slot: int) -> None:
        self._runner.begin(slot, self._sampling, slot, self._voice.codec)

    def _read(self, slot: int) -> int:
        """The position after the prompt."""
        prompt = self._prompt()
        self._runner.put_constant(slot, self._constant)
        self._runner.read(slot, prompt)
        return len(prompt.rows)

    def _prompt(self) -> Prompt:
        return self._model.prompts.write(self._model.tokenizer.encode(TEXT), LANGUAGE, self._voice.rows)


if __name__ == "__main__":
    sides.answer_requests(Ours)
