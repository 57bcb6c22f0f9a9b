"""Batches of utterances that speak on a device, as the engine runs them.

In: a checkpoint, a device, how many utterances. Out: milliseconds of steps. Does not know: sockets, what the
times are for. The only one of the GPU's measurements that knows the engine's Runner, through ``bench.ours``.
"""

import argparse

from bench.gpu_findings import Given
from bench.ours import Ours
from bench.sides import CHUNK_FRAMES, Figures, median

_WARM_UP_FRAMES = 4


class Batches(Ours):
    """A model with room for ``slots``."""

    def __init__(self, given: Given, slots: int) -> None:
        options = {"checkpoint": given.checkpoint, "device": given.device, "precision": given.precision}
        super().__init__(argparse.Namespace(**options, slots=slots, frames=_WARM_UP_FRAMES))
        self.measure("warm-up", 1)

    def times(self, batch: int, frames: int) -> Figures:
        """Of so many steps, once everything has happened that happens only once."""
        self.fill(batch)
        began_ms = self._clock.now_ms()
        steps_ms = self._speak(self._filled, frames)
        took_ms = self._clock.now_ms() - began_ms
        chunks_ms = [self._chunk_ms(batch) for _ in range(3)]
        return {
            # All of them by their number: a step may return before the device has ended it.
            "frame of each, ms": took_ms / frames,
            "median, ms": median(steps_ms),
            "longest, ms": max(steps_ms),
            "codec, a frame of 12 at once, ms": median(chunks_ms[1:]) / CHUNK_FRAMES,
        }

    def speak(self, frames: int) -> None:
        """Whoever was filled in."""
        self._speak(self._filled, frames)
        self._clock.now_ms()

    def fill(self, batch: int) -> None:
        """Before ``speak``: their prompts are read, and a few frames made."""
        self._filled = self._fill(batch)
        self._speak(self._filled, _WARM_UP_FRAMES)

    def _chunk_ms(self, batch: int) -> float:
        began_ms = self._clock.now_ms()
        self._runner.decode(range(batch), CHUNK_FRAMES)
        return self._clock.now_ms() - began_ms
