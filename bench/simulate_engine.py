"""An engine in virtual time: the real scheduler, ramp and admission, and a machine that is only figures.

In: what things take on a machine, a policy, who asks when. Out: what each of them heard, and when. Does not
know: models, sound, real time.

Turns are those of ``makima_tts.engines.qwen3.thread``: plan, read, step, decode, a slice of a voice. A text
is pieces with a prompt each; how long it takes to say is not what was guessed of it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from bench.simulate_traces import Arrival
from makima_tts.engines.qwen3.admission import HEADROOM, Admission, AdmissionRule, Load
from makima_tts.engines.qwen3.costs import CostMeter, Costs
from makima_tts.engines.qwen3.ramp import next_chunk_frames
from makima_tts.engines.qwen3.scheduler import Order, Standing, StepPlan, plan_step
from makima_tts.engines.qwen3.slots import Lease, Slots
from makima_tts.speech import ListenerClock

FRAME_S = 0.08
# As the service lets an utterance be ahead of its listener: its own bound, and the stream's credit.
MOST_AHEAD_S = 21.0
CHARS_PER_S = 15.0
_PIECE_CHARS = 90
# A cloned voice with six seconds of reference, whose constant rows are known.
_PROMPT_ROWS = 56

# As engine.utterance guesses.
_SLOWLY = 1.3

Planner = Callable[[Sequence[Standing], float, Costs, float | None], StepPlan]


@dataclass(frozen=True, slots=True)
class Machine:
    """What things take: ``steps`` as in Costs; a codec call and a part of a prompt, for being begun."""

    name: str
    steps: tuple[tuple[int, float], ...]
    codec_frame_s: float
    codec_call_s: float
    prompt_row_s: float
    prompt_part_s: float
    slots: int
    part_rows: int

    def step_s(self, streams: int) -> float:
        return Costs(self.steps).step_s(streams)


@dataclass(frozen=True, slots=True)
class Policy:
    """``plan`` decides every turn, ``rule`` and ``headroom`` who is let in."""

    name: str
    plan: Planner
    rule: AdmissionRule = "realtime"
    headroom: float = HEADROOM


def in_order_of(order: Order) -> Planner:
    """The real scheduler."""
    return lambda standings, now_s, costs, work_since_s: plan_step(
        standings, now_s, costs, work_since_s=work_since_s, order=order
    )


def everybody(
    standings: Sequence[Standing], _now_s: float, _costs: Costs, work_since_s: float | None
) -> StepPlan:
    """As it was before: prompts are read whole at once, all step every turn, and a slice after every step."""
    able = [each for each in standings if each.able]
    read = tuple((each.slot, len(each.unread)) for each in able if each.unread)
    speak = tuple(sorted(each.slot for each in able))
    return StepPlan(read, speak, frozenset(), work_since_s is not None)


@dataclass(slots=True)
class Heard:
    """What became of somebody. ``asked_s``: first; ``let_in_s``: None for whoever gave up.

    ``told``: how often he was told to wait, ``in_vain``: and was not let in when he came back.
    """

    asked_s: float
    let_in_s: float | None = None
    first_s: float | None = None
    lateness_s: list[float] = field(default_factory=list)
    told: int = 0
    in_vain: int = 0

    @property
    def late(self) -> bool:
        return any(late_s > 0 for late_s in self.lateness_s)


@dataclass(slots=True)
class _Speaker:
    """An utterance. ``pieces``: frames of those that are left, the one that is spoken among them."""

    lease: Lease
    heard: Heard
    since_s: float
    usual_s: float
    pieces: deque[int]
    unread: tuple[int, ...]
    clock: ListenerClock = field(default_factory=ListenerClock)
    pending: int = 0
    chunk_frames: int = 1
    frames: int = 0

    def standing(self, now_s: float) -> Standing:
        dry_s = self.clock.plays_until_s
        return Standing(
            slot=self.lease.slot,
            able=self.clock.ahead_s(now_s) < MOST_AHEAD_S,
            heard=dry_s is not None,
            due_s=self.since_s if dry_s is None else dry_s,
            unread=self.unread,
            pending=self.pending,
            chunk_frames=self.chunk_frames,
        )

    def unsaid_s(self) -> float:
        return max(FRAME_S, _SLOWLY * self.usual_s - self.frames * FRAME_S)


class Replica:
    """One engine. ``work`` is voices to encode: (when they come, seconds of each slice)."""

    def __init__(
        self, machine: Machine, policy: Policy, seed: int, work: Iterable[tuple[float, Sequence[float]]] = ()
    ) -> None:
        self._machine = machine
        self._policy = policy
        self._random = Random(seed)
        self._work = deque((at_s, deque(slices_s)) for at_s, slices_s in work)
        self._worked_s = 0.0
        self._admission = Admission(policy.rule, machine.slots, headroom=policy.headroom)
        self._slots = Slots(machine.slots)
        self._speakers: dict[int, _Speaker] = {}
        self._arrivals: deque[tuple[Arrival, Heard]] = deque()
        self._load = Load()
        self.meter = CostMeter()
        self.now_s = 0.0
        self._warm_up()

    def _warm_up(self) -> None:
        """As the engine does before it is ready: what one takes, and a full house."""
        machine = self._machine
        for streams in (1, machine.slots):
            self.meter.stepped(streams, machine.step_s(streams))
            self.meter.decoded(streams, machine.codec_call_s + streams * machine.codec_frame_s)
        self.meter.read(_PROMPT_ROWS, self._reading_s([_PROMPT_ROWS]))
        self._load = Load(self.meter.costs, FRAME_S)

    @property
    def limit(self) -> int:
        return self._admission.limit(self._load)

    @property
    def streams(self) -> int:
        return len(self._speakers) + len(self._arrivals)

    @property
    def has_work(self) -> bool:
        return bool(self._work)

    def ask(self, arrival: Arrival, heard: Heard, now_s: float) -> float | None:
        """None: let in. Else when to ask again."""
        self.advance(now_s)
        wait_s = self._admission.wait_s(self._load, self.streams, now_s)
        if wait_s is None:
            heard.let_in_s = now_s
            self._arrivals.append((arrival, heard))
        return wait_s

    def advance(self, until_s: float) -> None:
        """Turns that begin before then."""
        while self.now_s < until_s:
            self._admit()
            if not self._turn():
                self.now_s = min(until_s, self._next_work_s())

    def finish(self) -> None:
        """Until everybody has heard everything."""
        while self.streams:
            self.advance(self.now_s + 1.0)

    def _next_work_s(self) -> float:
        return max(self.now_s + 0.001, self._work[0][0]) if self._work else self.now_s + 0.02

    def _admit(self) -> None:
        while self._arrivals and self._arrivals[0][0].at_s <= self.now_s:
            if (lease := self._slots.lease()) is None:
                return
            arrival, heard = self._arrivals.popleft()
            usual_s = arrival.chars / CHARS_PER_S
            frames = max(2, round(usual_s * self._random.uniform(0.75, 1.3) / FRAME_S))
            self._speakers[lease.slot] = _Speaker(
                lease, heard, heard.let_in_s or 0.0, usual_s, _pieces(arrival.chars, frames), self._prompt()
            )

    def _prompt(self) -> tuple[int, ...]:
        """The rows of each part."""
        whole, rest = divmod(_PROMPT_ROWS, self._machine.part_rows)
        return (self._machine.part_rows,) * whole + ((rest,) if rest else ())

    def _turn(self) -> bool:
        """False when there was nothing to do."""
        began_s = self.now_s
        standings = [each.standing(began_s) for each in self._speakers.values()]
        works = bool(self._work) and self._work[0][0] <= began_s
        costs = self.meter.costs
        plan = self._policy.plan(standings, began_s, costs, self._worked_s if works else None)
        self._load = self._load_as_it_is(costs)
        self._read(plan)
        self._step(plan, costs)
        if plan.work and works:
            self._encode()
        return self.now_s > began_s

    def _load_as_it_is(self, costs: Costs) -> Load:
        rtf = costs.turn_s(len(self._speakers)) / FRAME_S
        leaving_s = (
            self.now_s + each.unsaid_s() * (rtf if each.clock.ahead_s(self.now_s) < MOST_AHEAD_S else 1.0)
            for each in self._speakers.values()
        )
        return Load(costs, FRAME_S, tuple(leaving_s))

    def _takes(self, seconds: float) -> float:
        """Time passes, a little more or less than it should, and now and then much more."""
        noisy_s = seconds * self._random.lognormvariate(0, 0.08)
        if self._random.random() < 0.002:
            noisy_s += 0.02
        self.now_s += noisy_s
        return noisy_s

    def _reading_s(self, parts: Sequence[int]) -> float:
        machine = self._machine
        return len(parts) * machine.prompt_part_s + sum(parts) * machine.prompt_row_s

    def _read(self, plan: StepPlan) -> None:
        parts: list[int] = []
        for slot, count in plan.read:
            speaker = self._speakers[slot]
            parts += speaker.unread[:count]
            speaker.unread = speaker.unread[count:]
        if parts:
            self.meter.read(sum(parts), self._takes(self._reading_s(parts)))

    def _step(self, plan: StepPlan, costs: Costs) -> None:
        speaking = [self._speakers[slot] for slot in plan.speak]
        if not speaking:
            return
        self.meter.stepped(len(speaking), self._takes(self._machine.step_s(len(speaking))))
        rtf = costs.turn_s(len(speaking)) / FRAME_S
        due: defaultdict[int, list[_Speaker]] = defaultdict(list)
        for speaker in speaking:
            speaker.pending += 1
            speaker.frames += 1
            speaker.pieces[0] -= 1
            hasten = speaker.lease.slot in plan.hasten
            if hasten or speaker.pending >= speaker.chunk_frames or speaker.pieces[0] == 0:
                due[speaker.pending].append(speaker)
        for frames, speakers in sorted(due.items()):
            self._decode(frames, speakers, rtf)

    def _decode(self, frames: int, speakers: Sequence[_Speaker], rtf: float) -> None:
        count = frames * len(speakers)
        took_s = self._takes(self._machine.codec_call_s + count * self._machine.codec_frame_s)
        self.meter.decoded(count, took_s)
        for speaker in speakers:
            late_s = speaker.clock.deliver(frames * FRAME_S, self.now_s)
            speaker.heard.lateness_s.append(late_s)
            if speaker.heard.first_s is None:
                speaker.heard.first_s = self.now_s
            speaker.pending = 0
            speaker.chunk_frames = next_chunk_frames(frames, rtf)
            if speaker.pieces[0] == 0:
                self._next_piece(speaker)

    def _next_piece(self, speaker: _Speaker) -> None:
        speaker.pieces.popleft()
        if speaker.pieces:
            speaker.unread = self._prompt()
        else:
            self._slots.release(self._speakers.pop(speaker.lease.slot).lease)

    def _encode(self) -> None:
        slices_s = self._work[0][1]
        self.meter.sliced(self._takes(slices_s.popleft()))
        self._worked_s = self.now_s
        if not slices_s:
            self._work.popleft()


def _pieces(chars: int, frames: int) -> deque[int]:
    """Frames of each piece, two at least."""
    count = max(1, min(round(chars / _PIECE_CHARS), frames // 2))
    return deque(frames * (number + 1) // count - frames * number // count for number in range(count))
