"""The engine's decisions: what work takes, what an iteration does, whether one more utterance is admitted.

In: measured times, a snapshot of every utterance, who speaks for how much longer, who was refused. Out:
Costs, an IterationPlan, admitted or seconds to wait. Does not know: the model, threads, texts, clocks.

Costs are medians, since a machine that is shared stalls now and then, and the first call of anything takes
longer than later ones.

Utterances whose listener is about to run dry come first, then those of which nothing was played yet, then the
rest; while one of the first two waits, well-buffered ones yield. A prompt is prefilled in chunks, as many in
an iteration as make no listener run dry. No wait is without a bound: an utterance that has waited for
``max_wait_s`` gets a chunk per iteration, whatever that does to others.

To refuse is better than to let every stream stutter. A refused client is told when a stream is expected to be
complete; the next one that is refused, when the next stream is.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from statistics import median_low
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class UtteranceSnapshot:
    """What the scheduler knows of an utterance. ``runnable``: it has something to do, and credit for sound.

    ``underrun_at_s``: when its listener runs dry; before ``playback_started``, since when the listener waits.
    ``prefill_rows``: the rows of each chunk of its prompt that is still to be prefilled. ``pending``: frames
    that are not decoded yet; ``chunk_frames`` of them become a chunk.
    """

    slot: int
    runnable: bool
    playback_started: bool
    underrun_at_s: float
    prefill_rows: tuple[int, ...] = ()
    pending: int = 0
    chunk_frames: int = 1

    @property
    def frames_to_decode(self) -> int:
        """After its next frame."""
        return self.pending + 1 if self.pending + 1 >= self.chunk_frames else 0


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """``prefill``: (slot, chunks of its prompt), in order. ``generate``: slots that generate a frame, rising.

    ``flush_now``: those of them whose frames are decoded at once, however few. ``side_work``: there is time
    for a slice of other work after all of that.
    """

    prefill: tuple[tuple[int, int], ...] = ()
    generate: tuple[int, ...] = ()
    flush_now: frozenset[int] = frozenset()
    side_work: bool = False

    @property
    def slots(self) -> set[int]:
        """All that take part."""
        return {*self.generate, *(slot for slot, _count in self.prefill)}


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """docs/scheduling.md says how these were chosen.

    ``well_buffered_s``: an utterance with more sound ahead yields; all of those together make an iteration
    longer by at most the share ``yielding_share``. ``max_wait_s``: for a chunk of a prompt;
    ``side_work_max_wait_s``: for a slice of other work. ``max_prefill_s``: of an iteration, so that one
    utterance starts to play before the next is prefilled. ``margin_s``: so long before it is needed, sound is
    there. ``min_writing_s`` and ``max_writing_s``: the host's time for writing prompts, in an iteration.
    """

    well_buffered_s: float = 1.0
    yielding_share: float = 0.5
    max_wait_s: float = 0.5
    side_work_max_wait_s: float = 2.0
    max_prefill_s: float = 0.2
    margin_s: float = 0.05
    min_writing_s: float = 0.004
    max_writing_s: float = 0.02


# Snapshots, the time, costs, and when other work last had its slice (None without any) → a plan.
Planner = Callable[[Sequence[UtteranceSnapshot], float, Costs, float | None], IterationPlan]


def plan_iteration(
    snapshots: Iterable[UtteranceSnapshot],
    now_s: float,
    costs: Costs,
    side_work_since_s: float | None = None,
    config: SchedulerConfig = SchedulerConfig(),
) -> IterationPlan:
    """``side_work_since_s``: when other work last had its slice; None without any."""
    planning = _Planning([each for each in snapshots if each.runnable], now_s, costs, config)
    prefill = planning.prefill()
    generate, flush_now = planning.generate(prefill)
    side_work = side_work_since_s is not None and planning.has_time_for_side_work(side_work_since_s)
    return IterationPlan(tuple(prefill.items()), generate, flush_now, side_work)


def writing_budget_s(
    snapshots: Iterable[UtteranceSnapshot],
    now_s: float,
    costs: Costs,
    config: SchedulerConfig = SchedulerConfig(),
) -> float:
    """For how long prompts may be written before an iteration: no listener runs dry, but always a little."""
    runnable = [each for each in snapshots if each.runnable]
    underrun_at_s = min((each.underrun_at_s for each in runnable if each.playback_started), default=inf)
    spare_s = underrun_at_s - now_s - config.margin_s - costs.iteration_s(len(runnable))
    return min(max(spare_s, config.min_writing_s), config.max_writing_s)


def next_chunk_frames(previous: int, rtf: float) -> int:
    """Frames of the next chunk. ``previous`` 0: the first. ``rtf``: synthesis seconds per second of sound.

    The first chunk is one frame, so that it plays soon; later ones are larger, so that a second of sound
    takes less work. While a chunk is generated, the one before it plays: so a chunk has no more frames than
    can be generated in that time, its predecessor divided by the real-time factor.
    """
    larger = next((size for size in CHUNK_FRAMES if size > previous), CHUNK_FRAMES[-1])
    if previous == 0 or rtf <= 0:
        return larger
    return max(1, min(larger, int(previous / rtf)))


class _Planning:
    """One iteration's decisions. ``rows`` are prefilled together; ``spent_s`` adds up what was decided."""

    def __init__(
        self, runnable: Sequence[UtteranceSnapshot], now_s: float, costs: Costs, config: SchedulerConfig
    ) -> None:
        self._runnable = runnable
        self._now_s = now_s
        self._costs = costs
        self._config = config
        self._iteration_s = costs.iteration_s(len(runnable))
        self._slack_s = {each.slot: self._slack_of(each) for each in runnable if each.playback_started}
        self._any_can_generate = any(not each.prefill_rows for each in runnable)
        self._rows = 0
        self._spent_s = 0.0

    def _slack_of(self, snapshot: UtteranceSnapshot) -> float:
        """Time for other things before its sound must be generated, so that its listener does not run dry."""
        prefill_s = self._costs.prefill_s(sum(snapshot.prefill_rows))
        decode_s = self._costs.decode_s(snapshot.pending)
        left_s = snapshot.underrun_at_s - self._now_s - self._config.margin_s
        return left_s - prefill_s - decode_s - self._iteration_s

    def _urgent(self, snapshot: UtteranceSnapshot) -> bool:
        """The next iteration would be too late."""
        return snapshot.playback_started and self._slack_s[snapshot.slot] < self._iteration_s

    def _rank(self, snapshot: UtteranceSnapshot) -> tuple[bool, bool, float]:
        return not self._urgent(snapshot), snapshot.playback_started, snapshot.underrun_at_s

    def prefill(self) -> dict[int, int]:
        """How many chunks of which prompts, by slot."""
        counts: dict[int, int] = {}
        for each in sorted((each for each in self._runnable if each.prefill_rows), key=self._rank):
            others = (slack_s for slot, slack_s in self._slack_s.items() if slot != each.slot)
            count = self._chunks_for(each, min(others, default=inf))
            if count:
                counts[each.slot] = count
            if count < len(each.prefill_rows):
                break
        return counts

    def _chunks_for(self, snapshot: UtteranceSnapshot, spare_s: float) -> int:
        """As many as make no other listener run dry; one at least if its own would first, or it waited too
        long."""
        waited_too_long = self._now_s - snapshot.underrun_at_s > self._config.max_wait_s
        insists = waited_too_long or self._runs_dry_first(snapshot) or not self._any_can_generate
        for count, rows in enumerate(snapshot.prefill_rows):
            spent_s = self._costs.prefill_s(self._rows + rows)
            first = self._rows == 0
            # The margin is for surprises, and short work has small ones.
            unused_margin_s = max(0.0, self._config.margin_s - spent_s)
            if spent_s > spare_s + unused_margin_s and not (first and insists):
                return count
            if spent_s > self._config.max_prefill_s and not first:
                return count
            self._rows += rows
            self._spent_s = spent_s
        return len(snapshot.prefill_rows)

    def _runs_dry_first(self, snapshot: UtteranceSnapshot) -> bool:
        started = (each.underrun_at_s for each in self._runnable if each.playback_started)
        return self._urgent(snapshot) and snapshot.underrun_at_s == min(started)

    def generate(self, prefill: Mapping[int, int]) -> tuple[tuple[int, ...], frozenset[int]]:
        """Which slots generate a frame, and which of them are urgent."""
        ready = sorted(
            (each for each in self._runnable if len(each.prefill_rows) == prefill.get(each.slot, 0)),
            key=self._rank,
        )
        urgent = frozenset(each.slot for each in ready if self._urgent(each))
        must = [each for each in ready if not each.playback_started or each.slot in urgent]
        rest = [each for each in ready if each.playback_started and each.slot not in urgent]
        planned = self._joined_by(must, rest, urgent)
        if not planned and not prefill:
            planned = ready[:1]  # even if that is late for others: there is nothing else to do
        slots = tuple(sorted(each.slot for each in planned))
        frames = (each.pending + 1 if each.slot in urgent else each.frames_to_decode for each in planned)
        self._spent_s += self._takes_s(len(slots), sum(frames))
        return slots, urgent

    def _joined_by(
        self, must: Sequence[UtteranceSnapshot], rest: Iterable[UtteranceSnapshot], urgent: frozenset[int]
    ) -> list[UtteranceSnapshot]:
        """With as many of the rest as there is time for, in their order."""
        # Urgent ones are decoded at the end of this iteration, the others one iteration later.
        bears_s = (s + self._iteration_s * (slot in urgent) for slot, s in self._slack_s.items())
        limit_s = min(bears_s, default=inf) - self._spent_s
        planned, frames = list(must), sum(each.pending + 1 for each in must)
        so_far_s = self._takes_s(len(planned), frames)
        newcomers_wait = len(self._slack_s) < len(self._runnable)
        for each in rest:
            if newcomers_wait and each.underrun_at_s - self._now_s > self._config.well_buffered_s:
                limit_s = min(limit_s, so_far_s * (1 + self._config.yielding_share))
                newcomers_wait = False  # the limit is set: all that follow are well buffered, too
            with_it_s = self._takes_s(len(planned) + 1, frames + each.frames_to_decode)
            if with_it_s <= max(limit_s, so_far_s):
                planned.append(each)
                frames, so_far_s = frames + each.frames_to_decode, with_it_s
        return planned

    def _takes_s(self, streams: int, frames: int) -> float:
        """A step of so many streams, and decoding so many frames after it."""
        return self._costs.step_s(streams) + self._costs.decode_s(frames)

    def has_time_for_side_work(self, since_s: float) -> bool:
        """If no listener runs dry or waits for a first sound meanwhile, or if it has waited too long."""
        if self._now_s - since_s > self._config.side_work_max_wait_s or not self._runnable:
            return True
        all_started = len(self._slack_s) == len(self._runnable)
        return all_started and self._spent_s + self._costs.slice_s <= min(self._slack_s.values())


# realtime: as many as the measured step leaves time for. slots: as many as there are batch rows.
AdmissionRule = Literal["realtime", "slots"]

# Share of the time that streams may take: the rest is for prompts, voices, and what cannot be foreseen
# (docs/scheduling.md says how it was chosen).
HEADROOM = 0.85

_MIN_WAIT_S, _MAX_WAIT_S = 0.2, 30.0
# Prompts and voices take time too.
_SAFETY_FACTOR = 1.1
# A refused client that has not come so long after its time is no longer expected.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """``complete_at_s``: when each open utterance will be generated, on the engine's clock.

    ``frame_s``: the sound of one frame; 0 while it is unknown.
    """

    costs: Costs = field(default_factory=Costs)
    frame_s: float = 0.0
    complete_at_s: tuple[float, ...] = ()


class Admission:
    """One for an engine. ``max_streams``: that there is memory for."""

    def __init__(self, rule: AdmissionRule, max_streams: int, *, headroom: float = HEADROOM) -> None:
        self._rule = rule
        self._max_streams = max_streams
        self._headroom = headroom
        self._promised_s: deque[float] = deque()

    def depends_on_batch_costs(self, load: EngineLoad) -> bool:
        """Whether the costs of several streams matter: if one is not in real time, no second is admitted."""
        return self._rule == "realtime" and self._max_streams > 1 and self._in_time(load, 1)

    def limit(self, load: EngineLoad) -> int:
        """Streams at once: at least one, however slow this machine is."""
        if self._rule == "slots":
            return self._max_streams
        # More streams never cost less, so the first count that is too large is found by bisection.
        counts = range(1, self._max_streams + 1)
        return max(1, bisect_left(counts, True, key=lambda count: not self._in_time(load, count)))

    def _in_time(self, load: EngineLoad, streams: int) -> bool:
        return load.costs.iteration_s(streams) <= self._headroom * load.frame_s

    def wait_s(self, load: EngineLoad, streams: int, now_s: float) -> float | None:
        """None admits one more beside ``streams``; else when to ask again."""
        self._forget_promises(now_s)
        limit = self.limit(load)
        if streams < limit:
            return None
        before = streams - limit + len(self._promised_s)
        free_s = _nth(sorted(max(each_s, now_s) for each_s in load.complete_at_s), before, now_s)
        wait_s = min(max(_SAFETY_FACTOR * (free_s - now_s), _MIN_WAIT_S), _MAX_WAIT_S)
        self._promised_s.append(now_s + wait_s)
        return wait_s

    def _forget_promises(self, now_s: float) -> None:
        while self._promised_s and self._promised_s[0] < now_s - _GRACE_S:
            self._promised_s.popleft()
        if self._promised_s and self._promised_s[0] <= now_s:
            self._promised_s.popleft()  # the client that asks now is assumed to be the one whose time it is


def _nth(complete_at_s: Sequence[float], number: int, now_s: float) -> float:
    """When the stream with this number is complete; later ones are assumed to take as long as the last."""
    if not complete_at_s:
        return now_s
    rounds, index = divmod(number, len(complete_at_s))
    return complete_at_s[index] + rounds * (complete_at_s[-1] - now_s)
