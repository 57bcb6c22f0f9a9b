"""The reference package, measured part by part as it runs itself.

In: requests of ``bench.model``. Out: milliseconds. Does not know: our model. Runs in the environment of
``make venv-qwen-tts``, with tests/official/stubs on PYTHONPATH.

It makes no sound before the last frame, decodes the voice's frames along with the utterance's, and decodes
them all at once: a frame's share of that is what is measured, as if it could be had frame by frame.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any
from unittest import mock

import torch

from bench import sides
from bench.sides import CHUNK_FRAMES, LANGUAGE, TEXT, Clock, Figures, median


class Reference:
    """A side. ``warm-up`` comes before everything else: a voice is encoded, and everything is done once."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._device = torch.device(given.device)
        self._clock = Clock(self._device)
        self._frames = given.frames
        # It prints when it is imported.
        self._tts = import_module("qwen_tts").Qwen3TTSModel.from_pretrained(
            str(given.checkpoint), dtype=sides.dtype_named(given.precision), device_map=given.device
        )
        self._talker = self._tts.model.talker
        self._codec = self._tts.model.speech_tokenizer.model.decoder

    def _warm_up(self) -> Figures:
        self._voice = self._encoded()
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

    def _encoded(self) -> Any:
        return self._tts.create_voice_clone_prompt((sides.clip(), sides.SAMPLE_RATE_HZ), sides.TRANSCRIPT)

    def _measure_voice(self) -> Figures:
        began_ms = self._clock.now_ms()
        self._encoded()
        took_ms = self._clock.now_ms() - began_ms
        return {
            "voice encoding": took_ms,
            "voice encoding, codes and x-vector": took_ms,
            "voice encoding, longest slice": took_ms,
        }

    def _measure_prompt(self) -> Figures:
        """It reads the whole prompt whenever a voice speaks."""
        with self._clock.watching(self._talker.model, "forward") as forward_ms:
            self._speak(1, 1)
        return {
            "prefill, a voice's first": forward_ms[0],
            "prefill, the voice has spoken": forward_ms[0],
        }

    def _measure_first(self) -> Figures:
        """The shortest that there is to wait for: an utterance of two frames."""
        began_ms = self._clock.now_ms()
        self._speak(1, 1, sound=True)
        return {"text to first chunk": self._clock.now_ms() - began_ms}

    def _measure_step(self, batch: int) -> Figures:
        """From one code predictor's beginning to the next one's, and a frame's share of the codec."""
        began_ms: list[float] = []
        generate = self._talker.code_predictor.generate

        def marked(*arguments: Any, **named: Any) -> Any:
            began_ms.append(self._clock.now_ms())
            return generate(*arguments, **named)

        with mock.patch.object(self._talker.code_predictor, "generate", marked):
            self._speak(batch, self._frames + 1)
        steps_ms = [after - before for before, after in pairwise(began_ms)]
        return {"whole step": median(steps_ms) + self._codec_ms(batch)}

    def _measure_parts(self, batch: int) -> Figures:
        with (
            self._clock.watching(self._talker.model, "forward") as talker_ms,
            self._clock.watching(self._talker.code_predictor, "generate") as predictor_ms,
        ):
            self._speak(batch, self._frames)
        codec_ms = self._codec_ms(batch)
        return {
            "talker": median(talker_ms[1:]),
            "code predictor": median(predictor_ms),
            "codec": codec_ms,
            f"codec, {CHUNK_FRAMES} frames at once": codec_ms,
        }

    def _codec_ms(self, batch: int) -> float:
        """A frame's share of decoding as many as we decode in a chunk, without the reference's."""
        codebooks = self._codec.config.num_quantizers
        codes = torch.randint(
            self._codec.config.codebook_size, (batch, codebooks, CHUNK_FRAMES), device=self._device
        )
        began_ms = self._clock.now_ms()
        self._codec.chunked_decode(codes)
        return (self._clock.now_ms() - began_ms) / CHUNK_FRAMES

    def _speak(self, batch: int, frames: int, *, sound: bool = False) -> None:
        """So many utterances together; without ``sound``, nothing is decoded."""
        torch.manual_seed(0)
        silent = ([torch.zeros(1)] * batch, sides.SAMPLE_RATE_HZ)
        decode = self._tts.model.speech_tokenizer.decode
        with mock.patch.object(
            self._tts.model.speech_tokenizer, "decode", decode if sound else lambda _codes: silent
        ):
            self._tts.generate_voice_clone(
                [TEXT] * batch,
                [LANGUAGE] * batch,
                voice_clone_prompt=self._voice,
                max_new_tokens=frames + 1,
            )


if __name__ == "__main__":
    sides.answer_requests(Reference)
