"""What work takes, as measured lately.

In: how long steps, decoding, prefilling and slices of other work took. Out: Costs, what they will take. Does
not know: clocks, utterances, what it is used for.

Medians, since a machine that is shared stalls now and then, and the first call of anything takes longer than
later ones.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median_low

# Frames of a stream's chunks, as they grow (scheduler.next_chunk_frames).
CHUNK_FRAMES = (1, 2, 4, 8, 12)
# Of a slice of other work, before one was measured.
_UNKNOWN_SLICE_S = 0.25
_SAMPLES = 25


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured (count, seconds), rising in both. ``steps``: by streams. ``decodes``: by frames that are
    decoded together. ``prefills``: by prompt rows that are prefilled together.

    ``slice_s``: the longest of the last slices of other work.
    """

    steps: tuple[tuple[int, float], ...] = ()
    decodes: tuple[tuple[int, float], ...] = ()
    prefills: tuple[tuple[int, float], ...] = ()
    slice_s: float = _UNKNOWN_SLICE_S

    def step_s(self, streams: int) -> float:
        return _interpolated(self.steps, streams)

    def decode_s(self, frames: int) -> float:
        """Of all streams together."""
        return _interpolated(self.decodes, frames)

    def prefill_s(self, rows: int) -> float:
        """Of all prompts together."""
        return _interpolated(self.prefills, rows)

    def iteration_s(self, streams: int) -> float:
        """A frame for so many streams, and its decoding: with few streams, of a chunk at a time."""
        together = max(streams, CHUNK_FRAMES[-1])
        return self.step_s(streams) + self.decode_s(together) * streams / together


def _interpolated(measured: Sequence[tuple[int, float]], count: int) -> float:
    """Linear between two measured counts, proportional beyond all."""
    if not measured or count <= 0:
        return 0.0
    index = bisect_right(measured, count, key=lambda each: each[0])
    if index == 0:
        return measured[0][1]
    fewer, fewer_s = measured[index - 1]
    if index == len(measured):
        return fewer_s * count / fewer
    more, more_s = measured[index]
    return fewer_s + (more_s - fewer_s) * (count - fewer) / (more - fewer)


class _RunningMedian:
    """Of the last samples: computed when one is added, since it is asked for more often."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self.median = 0.0

    def add(self, sample: float) -> None:
        self._samples.append(sample)
        self.median = median_low(self._samples)


_Medians = defaultdict[int, _RunningMedian]


class CostMeter:
    """``costs`` is an immutable value, which other threads may keep."""

    def __init__(self) -> None:
        self._steps: _Medians = defaultdict(_RunningMedian)
        self._decodes: _Medians = defaultdict(_RunningMedian)
        self._prefills: _Medians = defaultdict(_RunningMedian)
        self._slices_s: deque[float] = deque(maxlen=_SAMPLES)
        self._costs: Costs | None = Costs()

    def stepped(self, streams: int, seconds: float) -> None:
        """A step of so many streams, without prefilling and decoding."""
        self._steps[streams].add(seconds)
        self._costs = None

    def decoded(self, frames: int, seconds: float) -> None:
        """So many frames, of all streams together."""
        self._add_rounded(self._decodes, frames, seconds)

    def prefilled(self, rows: int, seconds: float) -> None:
        """So many prompt rows, of all prompts together."""
        self._add_rounded(self._prefills, rows, seconds)

    def _add_rounded(self, measured: _Medians, count: int, seconds: float) -> None:
        """Any count may occur: they are rounded down to powers of two."""
        rounded = 1 << (count.bit_length() - 1)
        measured[rounded].add(seconds / count * rounded)
        self._costs = None

    def sliced(self, seconds: float) -> None:
        """A slice of other work."""
        self._slices_s.append(seconds)
        self._costs = None

    @property
    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = Costs(
                steps=_plausible(self._steps),
                decodes=_plausible(self._decodes),
                prefills=_plausible(self._prefills),
                slice_s=max(self._slices_s, default=_UNKNOWN_SLICE_S),
            )
        return self._costs


def _plausible(measured: Mapping[int, _RunningMedian]) -> tuple[tuple[int, float], ...]:
    """More never cost less, and never more than in proportion, whatever was measured.

    A large count that was measured in a bad moment would else keep streams out, and so never be measured
    again.
    """
    return tuple(accumulate(sorted((count, each.median) for count, each in measured.items()), _bounded_by))


def _bounded_by(fewer: tuple[int, float], more: tuple[int, float]) -> tuple[int, float]:
    (count, seconds), (larger, measured) = fewer, more
    return larger, min(max(seconds, measured), seconds * larger / count)
