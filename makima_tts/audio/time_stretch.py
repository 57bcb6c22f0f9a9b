"""Slower or faster speech at the same pitch, while it is still being made.

In: float32 samples at one rate, in any split. Out: the same sound, ``1 / speed`` times as long. Does not
know: bytes, chunks, utterances.

FFmpeg's ``atempo`` (WSOLA) does it, which moves a sound by some milliseconds where that makes a better
seam. It fills as much output at once as its input would make, so it is given small blocks, always the same:
its first output comes sooner, and any split of the input gives bit-equal output.
"""

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph

_BLOCKS_PER_S = 50
# Silence that pushes the last sound out of the filter, which works in windows of 1/23 to 1/12 s.
_TAIL_BLOCKS = 10
_NOTHING = np.zeros(0, np.float32)

_Samples = npt.NDArray[np.float32]


class StreamingStretch:
    """One stream of sound; a new stream needs a new one. ``speed`` is 0.5 to 2.0.

    At 24 kHz the first output comes after 40 ms of sound at half speed, 80 ms at double speed: a frame of
    80 ms is mostly answered at once; silence may take a second one.
    """

    def __init__(self, rate_hz: int, speed: float) -> None:
        self._rate_hz, self._speed = rate_hz, speed
        self._block_samples = rate_hz // _BLOCKS_PER_S
        self._held = _NOTHING
        self._in_samples = self._out_samples = 0
        self._graph = graph = Graph()
        graph.threads = 1  # else one for each processor, which would have nothing to do
        source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono")
        graph.link_nodes(source, graph.add("atempo", repr(speed)), graph.add("abuffersink")).configure()

    def push(self, pcm: _Samples) -> _Samples:
        """float32 [n] → what of the output became certain, float32 [m]; ``m`` may be 0."""
        self._in_samples += pcm.size
        return self._count(self._stretch(pcm))

    def flush(self) -> _Samples:
        """The rest, float32 [m], so that ``n`` samples in are ``round(n / speed)`` samples out, exactly.

        Nothing may be pushed after it.
        """
        wanted = round(self._in_samples / self._speed) - self._out_samples
        tail = np.zeros(_TAIL_BLOCKS * self._block_samples, np.float32)
        return self._count(self._stretch(tail)[:wanted])

    def _stretch(self, pcm: _Samples) -> _Samples:
        pending = np.concatenate([self._held, pcm])
        whole = pending.size - pending.size % self._block_samples
        self._held = pending[whole:]
        blocks = pending[:whole].reshape(-1, self._block_samples)  # [blocks, samples]
        return np.concatenate([_NOTHING, *(part for block in blocks for part in self._filter(block))])

    def _filter(self, block: _Samples) -> list[_Samples]:
        frame = av.AudioFrame.from_ndarray(block[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = self._rate_hz
        self._graph.push(frame)
        return self._pulled()

    def _pulled(self) -> list[_Samples]:
        parts: list[_Samples] = []
        while True:
            try:
                parts.append(self._graph.pull().to_ndarray().reshape(-1).astype(np.float32))
            except av.BlockingIOError:
                return parts

    def _count(self, stretched: _Samples) -> _Samples:
        self._out_samples += stretched.size
        return stretched
