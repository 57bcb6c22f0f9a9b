"""What things take, as measured lately.

In: how long steps, decoding, reading and slices of other work took. Out: Costs, what they will take. Does not
know: clocks, utterances, what it is used for.

Medians, since a machine that others use as well stalls now and then, and what happens for the first time
takes longer than it ever will again.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

# Before a slice of other work was seen; then the longest.
_UNKNOWN_SLICE_S = 0.25
# Of slices the longest of the last few counts.
_SLICES = 25


@dataclass(frozen=True, slots=True)
class Costs:
    """``steps``: (streams in it, seconds of a step), both rising, for what was seen.

    ``codec_frame_s``: a frame of one stream becomes sound. ``prompt_row_s``: a row of a prompt is read.
    ``slice_s``: the longest slice of other work.
    """

    steps: tuple[tuple[int, float], ...] = ()
    codec_frame_s: float = 0.0
    prompt_row_s: float = 0.0
    slice_s: float = _UNKNOWN_SLICE_S

    def step_s(self, streams: int) -> float:
        """Between two measured counts on the line between them, beyond all as if each cost the same."""
        if not self.steps or streams <= 0:
            return 0.0
        place = bisect_right(self.steps, streams, key=lambda step: step[0])
        if place == 0:
            return self.steps[0][1]
        fewer, fewer_s = self.steps[place - 1]
        if place == len(self.steps):
            return fewer_s * streams / fewer
        more, more_s = self.steps[place]
        return fewer_s + (more_s - fewer_s) * (streams - fewer) / (more - fewer)

    def turn_s(self, streams: int) -> float:
        """A frame for so many streams, and its sound."""
        return self.step_s(streams) + streams * self.codec_frame_s


class _Lately:
    """The median of the last few, by weight."""

    _COUNT = 25

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=self._COUNT)

    def add(self, sample: float, weight: int = 1) -> None:
        self._samples.append((sample, weight))

    @property
    def median(self) -> float:
        ahead = sum(weight for _sample, weight in self._samples) / 2
        for sample, weight in sorted(self._samples):
            ahead -= weight
            if ahead <= 0:
                return sample
        return 0.0


class CostMeter:
    """Whoever measures tells it; ``costs`` is a value of its own, which other threads may keep."""

    def __init__(self) -> None:
        self._steps: dict[int, _Lately] = {}
        self._known: dict[int, float] = {}
        self._codec, self._prompt = _Lately(), _Lately()
        self._slices_s: deque[float] = deque(maxlen=_SLICES)
        self._costs: Costs | None = Costs()

    def stepped(self, streams: int, seconds: float) -> None:
        """A step of so many streams, without reading and decoding."""
        lately = self._steps.setdefault(streams, _Lately())
        lately.add(seconds)
        self._known[streams] = lately.median
        self._costs = None

    def decoded(self, frames: int, seconds: float) -> None:
        """So many frames, of all streams together."""
        self._codec.add(seconds / frames, frames)
        self._costs = None

    def read(self, rows: int, seconds: float) -> None:
        """So many prompt rows."""
        self._prompt.add(seconds / rows, rows)
        self._costs = None

    def sliced(self, seconds: float) -> None:
        self._slices_s.append(seconds)
        self._costs = None

    @property
    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = Costs(
                steps=_plausible(sorted(self._known.items())),
                codec_frame_s=self._codec.median,
                prompt_row_s=self._prompt.median,
                slice_s=max(self._slices_s, default=_UNKNOWN_SLICE_S),
            )
        return self._costs


def _plausible(steps: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """More streams never cost less, and never more than in proportion, whatever was measured, and when.

    What was measured of many in a bad moment would else keep many out, and so never be measured again.
    """
    return tuple(accumulate(steps, _next_to))


def _next_to(fewer: tuple[int, float], more: tuple[int, float]) -> tuple[int, float]:
    (streams, seconds), (count, measured) = fewer, more
    return count, min(max(seconds, measured), seconds * count / streams)
