"""Aligns the pieces of one utterance while their audio comes.

In: chunks of an engine. Out: times of words, to the utterance's timer. Does not know: when they are told.

The beginning of a piece is aligned each time it has grown by half, so that the words of a long piece are
known long before it ends; all of it, once it has ended. That is three seconds of alignment for each of audio.
"""

import asyncio
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from makima_tts.alignment.process import Aligner, Times
from makima_tts.speech import AudioChunk
from makima_tts.timings import WordTimer

_FIRST_S = 0.8
# A longer piece is estimated from there on: a voice that does not find its end must not fill the memory.
_LONGEST_S = 60.0
_GROWTH = 1.5


class PieceAlignment:
    """Event loop only. ``on_times`` is called when words have got their times, or will get none."""

    def __init__(
        self, aligner: Aligner, timer: WordTimer, rate_hz: int, speed: float, on_times: Callable[[], None]
    ) -> None:
        self._aligner = aligner
        self._timer = timer
        self._rate_hz = rate_hz
        self._ms_per_s = 1000 / speed
        self._on_times = on_times
        # Of the piece that is being spoken.
        self._piece_index = -1
        self._pcm: list[npt.NDArray[np.int16]] = []
        # The next alignment is of this much audio; inf: the piece is too long.
        self._next_s = _FIRST_S
        self._results: set[asyncio.Future[Times]] = set()

    @property
    def busy(self) -> bool:
        return bool(self._results)

    def hear(self, chunk: AudioChunk) -> None:
        """Call it for every chunk, before the timer is told of its audio."""
        if chunk.piece_index != self._piece_index:
            self._piece_index, self._pcm, self._next_s = chunk.piece_index, [], _FIRST_S
            self._timer.expect_alignment(chunk.piece_index)
        pcm = chunk.pcm if chunk.pcm.dtype == np.int16 else (np.clip(chunk.pcm, -1, 1) * 32767).astype("<i2")
        self._pcm.append(pcm.astype(np.int16, copy=False))
        heard_s = sum(part.size for part in self._pcm) / self._rate_hz
        if heard_s > _LONGEST_S or self._next_s == math.inf:
            self._pcm, self._next_s = [], math.inf
            self._timer.align(chunk.piece_index, (), whole=True)
            return
        words = self._timer.words_of(chunk.piece_index)
        if chunk.ends_piece or (heard_s >= self._next_s and words and not self._results):
            self._next_s = _GROWTH * heard_s
            self._align(words, whole=chunk.ends_piece)

    def close(self) -> None:
        """No times are expected any more."""
        for result in tuple(self._results):
            result.cancel()

    def _align(self, words: list[str], *, whole: bool) -> None:
        pcm = np.concatenate(self._pcm)
        result = self._aligner.align(words, pcm, self._rate_hz, whole=whole)
        self._results.add(result)
        result.add_done_callback(partial(self._take, self._piece_index, whole))

    def _take(self, piece_index: int, whole: bool, result: "asyncio.Future[Times]") -> None:
        self._results.discard(result)
        times_s: Times = () if result.cancelled() else result.result()
        times_ms = [(start * self._ms_per_s, end * self._ms_per_s) for start, end in times_s]
        self._timer.align(piece_index, times_ms, whole=whole)
        self._on_times()
