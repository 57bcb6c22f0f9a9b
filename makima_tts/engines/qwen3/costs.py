"""What things take, as measured lately.

In: how long steps, decoding, reading and slices of other work took. Out: Costs, what they will take. Does not
know: clocks, utterances, what it is used for.

Medians, since a machine that others use as well stalls now and then, and what happens for the first time
takes longer than it ever will again.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median_low

from makima_tts.engines.qwen3.ramp import RAMP_FRAMES

# Before a slice of other work was seen; then the longest.
_UNKNOWN_SLICE_S = 0.25
# Of slices the longest of the last few counts.
_SLICES = 25


@dataclass(frozen=True, slots=True)
class Costs:
    """``steps``: (streams in it, seconds of a step), both rising, for what was seen; ``sounds``: (frames that
    become sound together, seconds); ``reads``: (prompt rows that are read together, seconds).

    ``slice_s``: the longest slice of other work.
    """

    steps: tuple[tuple[int, float], ...] = ()
    sounds: tuple[tuple[int, float], ...] = ()
    reads: tuple[tuple[int, float], ...] = ()
    slice_s: float = _UNKNOWN_SLICE_S

    def step_s(self, streams: int) -> float:
        return _reckoned(self.steps, streams)

    def sound_s(self, frames: int) -> float:
        """So many frames, of all streams together, become sound."""
        return _reckoned(self.sounds, frames)

    def read_s(self, rows: int) -> float:
        """So many prompt rows, of all prompts together, are read."""
        return _reckoned(self.reads, rows)

    def turn_s(self, streams: int) -> float:
        """A frame for so many streams, and its sound: of few a chunk at a time."""
        together = max(streams, RAMP_FRAMES[-1])
        return self.step_s(streams) + self.sound_s(together) * streams / together


def _reckoned(measured: Sequence[tuple[int, float]], count: int) -> float:
    """Between two measured counts on the line between them, beyond all as if each cost the same."""
    if not measured or count <= 0:
        return 0.0
    place = bisect_right(measured, count, key=lambda each: each[0])
    if place == 0:
        return measured[0][1]
    fewer, fewer_s = measured[place - 1]
    if place == len(measured):
        return fewer_s * count / fewer
    more, more_s = measured[place]
    return fewer_s + (more_s - fewer_s) * (count - fewer) / (more - fewer)


class _Lately:
    """The median of the last few: settled when one is added, and asked for more often."""

    _COUNT = 25

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=self._COUNT)
        self.median = 0.0

    def add(self, sample: float) -> None:
        self._samples.append(sample)
        self.median = median_low(self._samples)


class CostMeter:
    """Whoever measures tells it; ``costs`` is a value of its own, which other threads may keep."""

    def __init__(self) -> None:
        self._steps: defaultdict[int, _Lately] = defaultdict(_Lately)
        self._sounds: defaultdict[int, _Lately] = defaultdict(_Lately)
        self._reads: defaultdict[int, _Lately] = defaultdict(_Lately)
        self._slices_s: deque[float] = deque(maxlen=_SLICES)
        self._costs: Costs | None = Costs()

    def stepped(self, streams: int, seconds: float) -> None:
        """A step of so many streams, without reading and decoding."""
        self._steps[streams].add(seconds)
        self._costs = None

    def decoded(self, frames: int, seconds: float) -> None:
        """So many frames, of all streams together."""
        self._add_about(self._sounds, frames, seconds)

    def read(self, rows: int, seconds: float) -> None:
        """So many prompt rows, of all prompts together."""
        self._add_about(self._reads, rows, seconds)

    def _add_about(self, measured: defaultdict[int, _Lately], count: int, seconds: float) -> None:
        """About as many are one with them: of these there may be any number."""
        about = 1 << (count.bit_length() - 1)
        measured[about].add(seconds / count * about)
        self._costs = None

    def sliced(self, seconds: float) -> None:
        self._slices_s.append(seconds)
        self._costs = None

    @property
    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = Costs(
                steps=_plausible(self._steps),
                sounds=_plausible(self._sounds),
                reads=_plausible(self._reads),
                slice_s=max(self._slices_s, default=_UNKNOWN_SLICE_S),
            )
        return self._costs


def _plausible(measured: Mapping[int, _Lately]) -> tuple[tuple[int, float], ...]:
    """More never cost less, and never more than in proportion, whatever was measured, and when.

    What was measured of many in a bad moment would else keep many out, and so never be measured again.
    """
    return tuple(accumulate(sorted((count, each.median) for count, each in measured.items()), _next_to))


def _next_to(fewer: tuple[int, float], more: tuple[int, float]) -> tuple[int, float]:
    (count, seconds), (larger, measured) = fewer, more
    return larger, min(max(seconds, measured), seconds * larger / count)
