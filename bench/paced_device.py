"""A device with set durations in place of the engine's Runner; the remaining time is the host's.

In: what the engine starts. Out: frames without a meaning, sound without one, when a GPU would be done. Does
not know: models.

The whole engine, the session and the server are the real ones; only tensors are not computed with. While the
host waits for the device it sleeps, as it would without the interpreter's lock.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor

from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner, Sound
from makima_tts.model.language_model import PrefillChunk
from makima_tts.model.prompt import Prompt, split_into_chunks
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache

PACE, LATENESS = "MAKIMA_BENCH_PACE", "MAKIMA_BENCH_LATENESS"
FRAMES_PER_ROW = "MAKIMA_BENCH_FRAMES_PER_ROW"
# Milliseconds of a step without the codec, by streams: two thirds of what is aimed at for a GPU.
_STREAMS, _STEP_MS = (1, 32, 128, 256), (3.3, 5.3, 9.3, 16.7)
_CALL_MS, _CODEC_FRAME_MS, _PREFILL_MS = 0.8, 0.03, 2.0
_CHUNK_ROWS = 256
_Result = TypeVar("_Result")


# How long after the device was done the host went on: mostly, how long it waited for the interpreter.
_LATE_S: list[float] = []


def write_lateness(path: Path) -> None:
    """Seconds, one per line; the values that were read are dropped."""
    told, _LATE_S[:] = tuple(_LATE_S), []
    new = path.with_suffix(".new")
    new.write_text("".join(f"{late_s}\n" for late_s in told))
    new.rename(path)


class PacedRunner(Runner):
    """Every utterance ends with its text: after a set number of frames (default 1) per trailing row."""

    runs_ahead = True

    def __init__(
        self,
        model: SpeechModel,
        *,
        slots: int,
        positions: int,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.positions = positions
        self.sample_rate_hz = model.sample_rate_hz
        self.frame_s = model.frame_samples / model.sample_rate_hz
        self._model = model
        self._scale = float(os.environ.get(PACE, "1"))
        self._row_frames = int(os.environ.get(FRAMES_PER_ROW, "1"))
        self._left = np.zeros(slots, np.int64)
        self._free_s = 0.0
        self._noise = np.random.Generator(np.random.PCG64(0)).integers(
            -8000, 8000, (slots, 12 * model.frame_samples), np.int16
        )
        progress(1.0)

    def begin(self, slot: int, sampling: object, seed: int, codec: Mapping[str, object]) -> None:
        pass

    def prefill_chunks(
        self, slot: int, prompt: Prompt, *, frame: int = 0, prefix_cached: bool = False
    ) -> list[PrefillChunk]:
        return split_into_chunks(prompt, slot, _CHUNK_ROWS, frame=frame, prefix_cached=prefix_cached)

    def prefix(self, slot: int, rows: int) -> KeyValueCache:
        return self._model.talker.transformer.new_cache(1, 1)

    def restore_prefix(self, slot: int, prefix: KeyValueCache) -> None:
        pass

    def append_text(self, slot: int, at: int, rows: Tensor) -> None:
        self._left[slot] += self._row_frames * len(rows)

    def prefill(self, chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
        for chunk in chunks:
            if chunk.trailing is not None:
                self._left[chunk.slot] = self._row_frames * len(chunk.trailing) + 1
        return self._after(_PREFILL_MS, lambda: None)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]
    ) -> PendingResult[GeneratedFrames]:
        self._left[list(slots)] -= 1
        codes = np.zeros((len(slots), 16), np.int32)
        batch = GeneratedFrames(codes, self._left[list(slots)] < 0, np.zeros(len(slots), bool))
        return self._after(float(np.interp(len(slots), _STREAMS, _STEP_MS)), lambda: batch)

    def decode(self, slots: Sequence[int], frames: int) -> PendingResult[Sound]:
        pcm = self._noise[: len(slots), : frames * self._model.frame_samples]
        sound = Sound(pcm, np.ones((len(slots), frames), bool), np.ones(len(slots), bool))
        return self._after(_CALL_MS + _CODEC_FRAME_MS * len(slots) * frames, lambda: sound)

    def scrub(self, slot: int) -> None:
        pass

    def _after(self, took_ms: float, result: Callable[[], _Result]) -> PendingResult[_Result]:
        """One thing after the other, by ``time.perf_counter``."""
        took_s = self._scale * took_ms / 1e3
        self._free_s = done_s = max(self._free_s, time.perf_counter()) + took_s

        def wait() -> _Result:
            if (left_s := done_s - time.perf_counter()) > 0:
                time.sleep(left_s)
                _LATE_S.append(time.perf_counter() - done_s)
            return result()

        return PendingResult(wait, lambda: took_s)
