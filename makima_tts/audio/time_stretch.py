"""Slower or faster speech at the same pitch, by FFmpeg's ``atempo`` (WSOLA)."""

from collections.abc import Iterator
from contextlib import suppress

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph

_BLOCKS_PER_S = 50
# Silence that flushes the filter, whose windows are 1/23 to 1/12 s long.
_TAIL_BLOCKS = 10
_EMPTY = np.zeros(0, np.float32)

_Samples = npt.NDArray[np.float32]


class StreamingStretch:
    """One stream of sound; a new stream needs a new one. ``speed`` is 0.5 to 2.0.

    The filter gets blocks of one size: so its first output comes sooner, and any split of the input gives
    bit-equal output. At 24 kHz the first output comes after 40 ms of input at half speed, 80 ms at double
    speed.
    """

    def __init__(self, rate_hz: int, speed: float) -> None:
        self._rate_hz, self._speed = rate_hz, speed
        self._block_samples = rate_hz // _BLOCKS_PER_S
        self._held = _EMPTY
        self._in_samples = self._out_samples = 0
        self._graph = graph = Graph()
        graph.threads = 1  # the default is one per processor, all but one idle
        source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono")
        graph.link_nodes(source, graph.add("atempo", repr(speed)), graph.add("abuffersink")).configure()

    def push(self, pcm: _Samples) -> _Samples:
        """float32 [n] → the output that is final, float32 [m]; ``m`` may be 0."""
        self._in_samples += pcm.size
        return self._count(self._stretch(pcm))

    def flush(self) -> _Samples:
        """The rest, float32 [m], so that ``n`` samples in are ``round(n / speed)`` samples out, exactly.

        Nothing may be pushed after it.
        """
        missing = round(self._in_samples / self._speed) - self._out_samples
        tail = np.zeros(_TAIL_BLOCKS * self._block_samples, np.float32)
        return self._count(self._stretch(tail)[:missing])

    def _stretch(self, pcm: _Samples) -> _Samples:
        pending = np.concatenate([self._held, pcm])
        whole = pending.size - pending.size % self._block_samples
        self._held = pending[whole:]
        blocks = pending[:whole].reshape(-1, self._block_samples)  # [blocks, samples]
        return np.concatenate([_EMPTY, *(output for block in blocks for output in self._filter(block))])

    def _filter(self, block: _Samples) -> Iterator[_Samples]:
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        self._graph.push(frame)
        with suppress(av.BlockingIOError):
            while True:
                yield self._graph.pull().to_ndarray().reshape(-1).astype(np.float32)

    def _count(self, stretched: _Samples) -> _Samples:
        self._out_samples += stretched.size
        return stretched
