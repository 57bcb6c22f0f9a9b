"""The reference package, measured module by module as it runs by itself.

In: requests of ``bench.compare``. Out: milliseconds. Does not know: our model. Runs in the environment of
``make venv-qwen-tts``, with tests/official/stubs on PYTHONPATH.

It returns sound after the last frame: it decodes the voice's frames and the utterance's all at once. A
frame's share of that is measured, as if it decoded frame by frame.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import pairwise
from statistics import median
from typing import Any
from unittest import mock

import torch

from bench.sides import CHUNK_FRAMES, FRAME_MS, Clock, Figures, answer_requests, frames_of
from bench.voice import LANGUAGE, SAMPLE_RATE_HZ, TEXT, TRANSCRIPT, clip

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_SPEECH_FRAMES = 63


class Reference:
    """``warm-up`` comes first: it encodes a voice, and does everything once."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._device = torch.device(given.device)
        self._clock = Clock(self._device)
        self._frames = given.frames
        # It prints when it is imported.
        self._tts = import_module("qwen_tts").Qwen3TTSModel.from_pretrained(
            str(given.checkpoint), dtype=_DTYPES[given.precision], device_map=given.device
        )
        self._talker = self._tts.model.talker
        self._codec = self._tts.model.speech_tokenizer.model.decoder

    def _warm_up(self) -> Figures:
        self._voice = self._encoded()
        self._speak(1, 2)
        return {}

    def measure(self, what: str, size: int) -> Figures:
        measurements: dict[str, Callable[[], Figures]] = {
            "warm-up": self._warm_up,
            "voice": self._measure_voice,
            "prompt": self._measure_prompt,
            "prefill": partial(self._measure_prefill, size),
            "first": self._measure_first,
            "step": partial(self._measure_step, size),
            "speech": self._measure_speech,
            "memory": lambda: {"peak memory, MiB": self._clock.peak_mib()},
        }
        return measurements[what]() if what in measurements else {}

    def _encoded(self) -> Any:
        return self._tts.create_voice_clone_prompt((clip(), SAMPLE_RATE_HZ), TRANSCRIPT)

    def _measure_voice(self) -> Figures:
        began_ms = self._clock.now_ms()
        self._encoded()
        took_ms = self._clock.now_ms() - began_ms
        return {
            "voice encoding, ms": took_ms,
            "voice encoding, codes and x-vector, ms": took_ms,
            "voice encoding, longest slice, ms": took_ms,
        }

    def _measure_prompt(self) -> Figures:
        """It prefills the whole prompt for every utterance."""
        with self._clock.timing(self._talker.model, "forward") as forward_ms:
            self._speak(1, 1)
        return {
            "prompt, a voice's first, ms": forward_ms[0],
            "prompt, the voice has spoken, ms": forward_ms[0],
        }

    def _measure_first(self) -> Figures:
        """The shortest utterance: two frames."""
        began_ms = self._clock.now_ms()
        self._speak(1, 1, sound=True)
        return {"text to first chunk, ms": self._clock.now_ms() - began_ms}

    def _measure_prefill(self, rows: int) -> Figures:
        hidden = self._talker.config.hidden_size
        embedded = torch.randn(1, rows, hidden, device=self._device, dtype=self._talker.dtype)
        began_ms = self._clock.now_ms()
        self._talker.model(inputs_embeds=embedded, use_cache=True)
        return {"prefill, ms": self._clock.now_ms() - began_ms}

    def _measure_speech(self) -> Figures:
        """Five seconds of speech: there is no sound before all of it is generated."""
        began_ms = self._clock.now_ms()
        self._speak(1, _SPEECH_FRAMES, sound=True)
        took_ms = self._clock.now_ms() - began_ms
        return {"TTFA, one stream, ms": took_ms, "RTF, one stream": took_ms / (_SPEECH_FRAMES * FRAME_MS)}

    def _measure_step(self, batch: int) -> Figures:
        frames = frames_of(batch, self._frames)
        with (
            self._clock.timing(self._talker.model, "forward") as talker_ms,
            self._clock.timing(self._talker.code_predictor, "generate") as predictor_ms,
        ):
            self._speak(batch, frames)
        codec_ms = self._codec_ms(batch)
        return {
            "whole step, ms": self._between_steps_ms(batch, frames) + codec_ms,
            "talker, ms": median(talker_ms[1:]),
            "code predictor, ms": median(predictor_ms),
            "codec, ms": codec_ms,
            f"codec, a frame of {CHUNK_FRAMES} at once, ms": codec_ms,
        }

    def _between_steps_ms(self, batch: int, frames: int) -> float:
        """From the beginning of one code predictor's call to that of the next."""
        began_ms: list[float] = []
        generate = self._talker.code_predictor.generate

        def marked(*arguments: Any, **named: Any) -> Any:
            began_ms.append(self._clock.now_ms())
            return generate(*arguments, **named)

        with mock.patch.object(self._talker.code_predictor, "generate", marked):
            self._speak(batch, frames + 1)
        return median([after - before for before, after in pairwise(began_ms)])

    def _codec_ms(self, batch: int) -> float:
        """A frame's share of decoding a chunk as large as our largest, without the voice's frames."""
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
        silent = ([torch.zeros(1)] * batch, SAMPLE_RATE_HZ)
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
    answer_requests(lambda options: Reference(options).measure)
