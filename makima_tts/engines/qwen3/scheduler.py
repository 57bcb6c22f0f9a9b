"""Whose prompt is read and who makes a frame: the order of work, by the listeners' clocks.

In: what every utterance has and lacks, the time, what things take. Out: a StepPlan. Does not know: the model,
threads, where the time comes from.

Whoever is about to run dry comes first, then newcomers, then the rest; while one of the first two waits,
those who have plenty to be heard yield. A prompt is read in parts, as many a turn as nobody runs dry for. And
nobody waits for ever: whoever has waited too long is served a part at a time, whatever that does to others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from makima_tts.engines.qwen3.costs import Costs


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an utterance stands. ``able``: a piece is written and has not ended, and there is credit for its
    sound.

    ``due_s``: when its listener runs dry; of a newcomer (``heard`` is False) since when it waits. ``unread``:
    the rows of each part of its prompt that is still to be read. ``pending``: frames that are not sound yet;
    ``chunk_frames`` of them become a chunk.
    """

    slot: int
    able: bool
    heard: bool
    due_s: float
    unread: tuple[int, ...] = ()
    pending: int = 0
    chunk_frames: int = 1

    @property
    def decodes(self) -> int:
        """Frames that become sound once it has made another."""
        return self.pending + 1 if self.pending + 1 >= self.chunk_frames else 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """``read``: (slot, parts of its prompt), in order. ``speak``: slots that make a frame, rising.

    ``hasten``: those of them whose frames become sound at once, however few. ``work``: time for a slice of
    other work, after all of that.
    """

    read: tuple[tuple[int, int], ...] = ()
    speak: tuple[int, ...] = ()
    hasten: frozenset[int] = frozenset()
    work: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """Seconds that decide; docs/scheduling.md says how they were chosen.

    ``plenty_s``: whoever has more to be heard yields; all of those together make a turn no more than
    ``plenty_share`` longer. ``patience_s``: nobody waits longer for a part of a prompt; ``work_patience_s``:
    nor other work for a slice. ``reading_s``: a turn reads no longer, so that who was read is heard before
    the next is read. ``margin_s``: sound is there so long before it is due. Prompts are written by the host,
    between ``least_writing_s`` and ``most_writing_s`` in a turn.
    """

    plenty_s: float = 1.0
    plenty_share: float = 0.5
    patience_s: float = 0.5
    work_patience_s: float = 2.0
    reading_s: float = 0.2
    margin_s: float = 0.05
    least_writing_s: float = 0.004
    most_writing_s: float = 0.02


def plan_step(
    standings: Iterable[Standing],
    now_s: float,
    costs: Costs,
    *,
    work_since_s: float | None = None,
    order: Order = Order(),
) -> StepPlan:
    """``work_since_s``: when other work last had its turn; None without any."""
    turn = _Turn([each for each in standings if each.able], now_s, costs, order)
    read = turn.read()
    speak, hasten = turn.speak(read)
    work = work_since_s is not None and turn.has_time_for_work(work_since_s)
    return StepPlan(tuple(read.items()), speak, hasten, work)


def writing_s(standings: Iterable[Standing], now_s: float, costs: Costs, *, order: Order = Order()) -> float:
    """For how long prompts may be written before a turn: as nobody runs dry for, but always a little."""
    able = [each for each in standings if each.able]
    dry_s = min((each.due_s for each in able if each.heard), default=inf)
    spare_s = dry_s - now_s - order.margin_s - costs.turn_s(len(able))
    return min(max(spare_s, order.least_writing_s), order.most_writing_s)


class _Turn:
    """One turn's decisions. ``rows`` are read together; ``spent_s`` adds up what was decided."""

    def __init__(self, able: Sequence[Standing], now_s: float, costs: Costs, order: Order) -> None:
        self._able = able
        self._now_s = now_s
        self._costs = costs
        self._order = order
        self._turn_s = costs.turn_s(len(able))
        self._slack_s = {each.slot: self._slack_of(each) for each in able if each.heard}
        self._somebody_can_speak = any(not each.unread for each in able)
        self._rows = 0
        self._spent_s = 0.0

    def _slack_of(self, standing: Standing) -> float:
        """What may come between, so that its sound is there when its listener runs dry."""
        reading_s = self._costs.read_s(sum(standing.unread))
        sound_s = self._costs.sound_s(standing.pending)
        left_s = standing.due_s - self._now_s - self._order.margin_s
        return left_s - reading_s - sound_s - self._turn_s

    def _hurried(self, standing: Standing) -> bool:
        """The next turn would be too late."""
        return standing.heard and self._slack_s[standing.slot] < self._turn_s

    def _rank(self, standing: Standing) -> tuple[bool, bool, float]:
        return not self._hurried(standing), standing.heard, standing.due_s

    def read(self) -> dict[int, int]:
        """How many parts of whose prompt."""
        parts: dict[int, int] = {}
        for reader in sorted((each for each in self._able if each.unread), key=self._rank):
            others = (slack_s for slot, slack_s in self._slack_s.items() if slot != reader.slot)
            count = self._parts_for(reader, min(others, default=inf))
            if count:
                parts[reader.slot] = count
            if count < len(reader.unread):
                break
        return parts

    def _parts_for(self, reader: Standing, spare_s: float) -> int:
        """As many as nobody runs dry for; one for whoever would first, or has waited too long."""
        impatient = self._now_s - reader.due_s > self._order.patience_s
        insists = impatient or self._first_to_run_dry(reader) or not self._somebody_can_speak
        for count, rows in enumerate(reader.unread):
            spent_s = self._costs.read_s(self._rows + rows)
            first = self._rows == 0
            # The margin is for surprises; what is soon done has small ones.
            saved_s = max(0.0, self._order.margin_s - spent_s)
            if spent_s > spare_s + saved_s and not (first and insists):
                return count
            if spent_s > self._order.reading_s and not first:
                return count
            self._rows += rows
            self._spent_s = spent_s
        return len(reader.unread)

    def _first_to_run_dry(self, reader: Standing) -> bool:
        return self._hurried(reader) and reader.due_s == min(each.due_s for each in self._able if each.heard)

    def speak(self, read: Mapping[int, int]) -> tuple[tuple[int, ...], frozenset[int]]:
        """Who makes a frame, and whose frames cannot wait until they are a chunk."""
        ready = sorted(
            (each for each in self._able if len(each.unread) == read.get(each.slot, 0)), key=self._rank
        )
        hurried = frozenset(each.slot for each in ready if self._hurried(each))
        must = [each for each in ready if not each.heard or each.slot in hurried]
        rest = [each for each in ready if each.heard and each.slot not in hurried]
        chosen = self._joined_by(must, rest, hurried)
        if not chosen and not read:
            chosen = ready[:1]  # whatever becomes of the others: there is nothing else to do
        slots = tuple(sorted(each.slot for each in chosen))
        sounds = (each.pending + 1 if each.slot in hurried else each.decodes for each in chosen)
        self._spent_s += self._takes_s(len(slots), sum(sounds))
        return slots, hurried

    def _joined_by(
        self, must: Sequence[Standing], rest: Iterable[Standing], hurried: frozenset[int]
    ) -> list[Standing]:
        """With as many of the others as there is time for, the most urgent first."""
        # Whoever is hurried is heard at the end of this turn, the others one turn later.
        bears_s = (s + self._turn_s * (slot in hurried) for slot, s in self._slack_s.items())
        limit_s = min(bears_s, default=inf) - self._spent_s
        chosen, frames = list(must), sum(each.pending + 1 for each in must)
        so_far_s = self._takes_s(len(chosen), frames)
        somebody_waits = len(self._slack_s) < len(self._able)
        for each in rest:
            if somebody_waits and each.due_s - self._now_s > self._order.plenty_s:
                limit_s = min(limit_s, so_far_s * (1 + self._order.plenty_share))
                somebody_waits = False  # the limit is set: all who follow have plenty, too
            with_it_s = self._takes_s(len(chosen) + 1, frames + each.decodes)
            if with_it_s <= max(limit_s, so_far_s):
                chosen.append(each)
                frames, so_far_s = frames + each.decodes, with_it_s
        return chosen

    def _takes_s(self, streams: int, frames: int) -> float:
        """A step of so many, and so many frames that become sound after it."""
        return self._costs.step_s(streams) + self._costs.sound_s(frames)

    def has_time_for_work(self, since_s: float) -> bool:
        """When nobody runs dry or waits to be heard; or when it has waited too long."""
        if self._now_s - since_s > self._order.work_patience_s or not self._able:
            return True
        everybody_is_heard = len(self._slack_s) == len(self._able)
        return everybody_is_heard and self._spent_s + self._costs.slice_s <= min(self._slack_s.values())
