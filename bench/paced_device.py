"""A device that takes as long as it is told, in the place of the engine's Runner: what is left is the host.

In: what the engine starts. Out: frames without a meaning, sound without one, when a GPU would be done. Does
not know: models.

The whole engine, the session and the server are the real ones; only tensors are not computed with. While the
host waits for the device it sleeps, as it would without the interpreter's lock.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from makima_tts.engines.qwen3.runner import Made, Sound
from makima_tts.model.frames import PrefillChunk, split_into_chunks
from makima_tts.model.prompt import Prompt
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache

PACE, LATENESS = "MAKIMA_BENCH_PACE", "MAKIMA_BENCH_LATENESS"
FRAMES_PER_ROW = "MAKIMA_BENCH_FRAMES_PER_ROW"
# Milliseconds of a step without the codec, by streams: two thirds of what is aimed at for a GPU.
_STREAMS, _STEP_MS = (1, 32, 128, 256), (3.3, 5.3, 9.3, 16.7)
_CALL_MS, _CODEC_FRAME_MS, _READ_MS = 0.8, 0.03, 2.0
_PART_ROWS = 256
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Later(Generic[_Result]):
    """An Awaited: ``done_s`` by ``time.perf_counter``."""

    result: Callable[[], _Result]
    done_s: float
    seconds: float

    def wait(self) -> _Result:
        if (left_s := self.done_s - time.perf_counter()) > 0:
            time.sleep(left_s)
            _LATE_S.append(time.perf_counter() - self.done_s)
        return self.result()


# How long after the device was done the host went on: mostly, how long it waited for the interpreter.
_LATE_S: list[float] = []


def write_lateness(path: Path) -> None:
    """Seconds, one a line; what was told is forgotten."""
    told, _LATE_S[:] = tuple(_LATE_S), []
    new = path.with_suffix(".new")
    new.write_text("".join(f"{late_s}\n" for late_s in told))
    new.rename(path)


class PacedRunner:
    """As Runner. Every utterance ends with its text: a frame, or so many as it is told, for each token that
    the prompt left."""

    runs_ahead = True

    def __init__(
        self,
        model: SpeechModel,
        *,
        slots: int,
        positions: int,
        text_rows: int,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.positions = positions
        self.text_rows = text_rows
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

    def parts(
        self, slot: int, prompt: Prompt, *, frame: int = 0, prefix_cached: bool = False
    ) -> list[PrefillChunk]:
        return split_into_chunks(prompt, slot, _PART_ROWS, frame=frame, prefix_cached=prefix_cached)

    def constant(self, slot: int, rows: int) -> KeyValueCache:
        return self._model.talker.new_cache(1, 1)

    def put_constant(self, slot: int, constant: KeyValueCache) -> None:
        pass

    def append(self, slot: int, at: int, rows: Tensor) -> None:
        self._left[slot] += self._row_frames * len(rows)

    def read(self, parts: Sequence[PrefillChunk]) -> _Later[None]:
        for part in parts:
            if part.trailing is not None:
                self._left[part.slot] = self._row_frames * len(part.trailing) + 1
        return self._after(_READ_MS, lambda: None)

    def make(
        self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]
    ) -> _Later[Made]:
        self._left[list(slots)] -= 1
        codes = np.zeros((len(slots), 16), np.int32)
        made = Made(codes, self._left[list(slots)] < 0, np.zeros(len(slots), bool))
        return self._after(float(np.interp(len(slots), _STREAMS, _STEP_MS)), lambda: made)

    def decode(self, slots: Sequence[int], frames: int) -> _Later[Sound]:
        pcm = self._noise[: len(slots), : frames * self._model.frame_samples]
        sound = Sound(pcm, np.ones((len(slots), frames), bool), np.ones(len(slots), bool))
        return self._after(_CALL_MS + _CODEC_FRAME_MS * len(slots) * frames, lambda: sound)

    def scrub(self, slot: int) -> None:
        pass

    def _after(self, took_ms: float, result: Callable[[], _Result]) -> _Later[_Result]:
        """One thing after the other."""
        took_s = self._scale * took_ms / 1e3
        self._free_s = max(self._free_s, time.perf_counter()) + took_s
        return _Later(result, self._free_s, took_s)
