"""What an iteration does: which prompts are prefilled, which streams generate, how large chunks are.

In: a snapshot of every utterance, the time, what work takes. Out: an IterationPlan. Does not know: the model,
threads, where the time comes from.

Utterances whose listener is about to run dry come first, then those of which nothing was played yet, then the
rest; while one of the first two waits, well-buffered ones yield. A prompt is prefilled in chunks, as many in
an iteration as make no listener run dry. No wait is without a bound: an utterance that has waited for
``max_wait_s`` gets a chunk per iteration, whatever that does to others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from makima_tts.engines.qwen3.costs import CHUNK_FRAMES, Costs


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
