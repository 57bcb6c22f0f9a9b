"""The engine's own loop in virtual time, with a runner that only takes time.

In: what work takes on a machine, a policy, arrivals. Out: what each listener heard, and when. Does not know:
models, sound, real time.

A text is pieces with a prompt each; how long it takes to say differs from what the engine guesses.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random

import numpy as np
import torch

from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.engines.qwen3.loop import EngineLoop, SideWork
from makima_tts.engines.qwen3.prompts import Prompts
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner, Sound
from makima_tts.engines.qwen3.scheduler import (
    HEADROOM,
    Admission,
    AdmissionRule,
    Costs,
    EngineLoad,
    IterationPlan,
    Planner,
    UtteranceSnapshot,
    plan_iteration,
)
from makima_tts.engines.qwen3.utterance import EngineUtterance, Prefilling
from makima_tts.errors import TtsError
from makima_tts.model.language_model import PrefillChunk
from makima_tts.speech import AudioChunk, FinishReason, ListenerClock, SpeechSink, UtteranceRequest
from tests.scheduling.arrival_traces import Arrival

FRAME_S = 0.08
# A frame is two samples, of which only the number counts.
_FRAME_SAMPLES, _SAMPLE_RATE_HZ = 2, 25
# As the service lets an utterance be ahead of its listener: its own bound, and the stream's credit.
MOST_AHEAD_S = 21.0
CHARS_PER_S = 15.0
_PIECE_CHARS = 90
# A cloned voice with six seconds of reference, whose prefix is cached.
_PROMPT_ROWS = 56


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds: ``steps`` as in Costs; ``codec_call_s`` and ``prompt_chunk_s`` for each call and chunk."""

    name: str
    steps: tuple[tuple[int, float], ...]
    codec_frame_s: float
    codec_call_s: float
    prompt_row_s: float
    prompt_chunk_s: float
    slots: int
    chunk_rows: int

    def step_s(self, streams: int) -> float:
        return Costs(self.steps).step_s(streams)

    def prefill_s(self, chunks: Iterable[int]) -> float:
        """``chunks``: rows of each."""
        return sum(self.prompt_chunk_s + rows * self.prompt_row_s for rows in chunks)

    def decode_s(self, frames: int) -> float:
        return self.codec_call_s + frames * self.codec_frame_s


@dataclass(frozen=True, slots=True)
class Policy:
    """``planner`` plans iterations; ``rule`` and ``headroom`` decide about admission."""

    name: str
    planner: Planner = plan_iteration
    rule: AdmissionRule = "realtime"
    headroom: float = HEADROOM


def plan_everything(
    snapshots: Sequence[UtteranceSnapshot], _now_s: float, _costs: Costs, side_work_since_s: float | None
) -> IterationPlan:
    """Before there was a scheduler: whole prompts at once, all streams in every step, a slice after each."""
    runnable = [each for each in snapshots if each.runnable]
    prefill = tuple((each.slot, len(each.prefill_rows)) for each in runnable if each.prefill_rows)
    generate = tuple(sorted(each.slot for each in runnable))
    return IterationPlan(prefill, generate, frozenset(), side_work_since_s is not None)


@dataclass(slots=True)
class SimulatedListener:
    """``asked_s``: first; ``admitted_s``: None if it gave up. ``refusals``: how often it was told to wait;
    ``refused_again``: how often when it came back as told."""

    asked_s: float
    admitted_s: float | None = None
    first_s: float | None = None
    lateness_s: list[float] = field(default_factory=list)
    refusals: int = 0
    refused_again: int = 0

    @property
    def late(self) -> bool:
        return any(late_s > 0 for late_s in self.lateness_s)


class _Sink(SpeechSink):
    """A listener whose whole text is there. ``pieces``: characters and frames of each that is left."""

    def __init__(self, arrival: Arrival, heard: SimulatedListener, clock: Callable[[], float]) -> None:
        self.cancelled, self.text_closed, self.fed_chars = False, True, arrival.chars
        self.pieces: deque[tuple[int, int]] = deque()
        self._heard = heard
        self._now_s = clock
        self._playback = ListenerClock()

    @property
    def has_credit(self) -> bool:
        return self._playback.ahead_s(self._now_s()) < MOST_AHEAD_S

    def take_piece(self) -> str | None:
        return "x" * self.pieces[0][0] if self.pieces else None

    def put(self, chunk: AudioChunk) -> None:
        now_s = self._now_s()
        late_s = self._playback.deliver(chunk.pcm.size / _SAMPLE_RATE_HZ, now_s)
        self._heard.lateness_s.append(late_s)
        if self._heard.first_s is None:
            self._heard.first_s = now_s

    def end(self, reason: FinishReason = "stop") -> None:
        pass

    def fail(self, error: TtsError) -> None:
        raise error


class _Prompts(Prompts):
    """Draws how long an utterance takes to say when it begins."""

    def __init__(self, machine: Machine, random: Random) -> None:
        self._rows = _split_prompt(machine.chunk_rows)
        self._random = random

    def begin(self, utterance: EngineUtterance) -> None:
        sink = utterance.sink
        assert isinstance(sink, _Sink)
        frames = max(2, round(sink.fed_chars / CHARS_PER_S * self._random.uniform(0.75, 1.3) / FRAME_S))
        sink.pieces.extend(_pieces(sink.fed_chars, frames))

    def write(self, utterance: EngineUtterance, now_s: float) -> None:
        """The piece ends with its budget: the step that only finds its end is not simulated."""
        piece, sink, slot = utterance.piece, utterance.sink, utterance.slot
        assert isinstance(sink, _Sink)
        piece.unwritten.clear()
        piece.prompt_rows, piece.budget_frames = _PROMPT_ROWS, sink.pieces.popleft()[1]
        utterance.begin_prefill(Prefilling(deque(PrefillChunk(slot, 0, rows) for rows in self._rows)))


class _Runner(Runner):
    """``spend``: lets time pass, about as much as it is told, and returns how much it was."""

    positions = 0
    sample_rate_hz = _SAMPLE_RATE_HZ
    frame_s = FRAME_S
    runs_ahead = False

    def __init__(self, machine: Machine, spend: Callable[[float], float]) -> None:
        self._machine = machine
        self._spend = spend

    def prefill(self, chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
        took_s = self._spend(self._machine.prefill_s(len(chunk.rows) for chunk in chunks))
        return PendingResult(lambda: None, lambda: took_s)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]
    ) -> PendingResult[GeneratedFrames]:
        took_s = self._spend(self._machine.step_s(len(slots)))
        return PendingResult(partial(_frames, len(slots)), lambda: took_s)

    def decode(self, slots: Sequence[int], frames: int) -> PendingResult[Sound]:
        took_s = self._spend(self._machine.decode_s(len(slots) * frames))
        return PendingResult(partial(_sound, len(slots), frames), lambda: took_s)


@cache
def _frames(streams: int) -> GeneratedFrames:
    no = np.zeros(streams, bool)
    return GeneratedFrames(np.zeros((streams, 1), np.int32), no, no)


@cache
def _sound(streams: int, frames: int) -> Sound:
    loud = np.ones((streams, frames), bool)
    return Sound(np.zeros((streams, frames * _FRAME_SAMPLES), np.int16), loud, np.ones(streams, bool))


@cache
def _split_prompt(chunk_rows: int) -> tuple[torch.Tensor, ...]:
    return torch.split(torch.empty(_PROMPT_ROWS, 0), chunk_rows)


class Replica:
    """One engine. ``work`` is voices to encode: (when they come, seconds of each slice)."""

    def __init__(
        self, machine: Machine, policy: Policy, seed: int, work: Iterable[tuple[float, Sequence[float]]] = ()
    ) -> None:
        self._random = Random(seed)
        self._work = deque(work)
        self._admission = Admission(policy.rule, machine.slots, headroom=policy.headroom)
        self._open: set[SpeechSink] = set()
        self.now_s = 0.0
        self._loop = EngineLoop(
            _Runner(machine, self._spend),
            _Prompts(machine, self._random),
            slots=machine.slots,
            options=SynthesisOptions(raw=True),
            clock=lambda: self.now_s,
            arrivals=deque(),
            side_work=deque(),
            ended=self._open.discard,
            planner=policy.planner,
        )
        self._warm_up(machine)

    def _warm_up(self, machine: Machine) -> None:
        """As the engine does before it is ready: what one stream takes, and a full batch."""
        meter = self._loop.meter
        for streams in (1, machine.slots):
            meter.stepped(streams, machine.step_s(streams))
            meter.decoded(streams, machine.decode_s(streams))
        meter.prefilled(_PROMPT_ROWS, machine.prefill_s([_PROMPT_ROWS]))
        self._loop.load = EngineLoad(meter.costs, FRAME_S)

    @property
    def limit(self) -> int:
        return self._admission.limit(self._loop.load)

    @property
    def has_work(self) -> bool:
        return bool(self._work or self._loop.side_work)

    def ask(self, arrival: Arrival, heard: SimulatedListener, now_s: float) -> float | None:
        """None: admitted. Else when to ask again."""
        self.advance(now_s)
        wait_s = self._admission.wait_s(self._loop.load, len(self._open), now_s)
        if wait_s is None:
            heard.admitted_s = now_s
            sink = _Sink(arrival, heard, lambda: self.now_s)
            self._open.add(sink)
            self._loop.arrivals.append((UtteranceRequest(""), sink))
        return wait_s

    def advance(self, until_s: float) -> None:
        """Iterations that begin before then."""
        while self.now_s < until_s:
            while self._work and self._work[0][0] <= self.now_s:
                self._loop.side_work.append(SideWork(self._slices(self._work.popleft()[1])))
            if not self._loop.iterate():
                self.now_s = min(until_s, self._next_work_s())

    def finish(self) -> None:
        """Until every listener has heard everything."""
        while self._open:
            self.advance(self.now_s + 1.0)

    def _next_work_s(self) -> float:
        return max(self.now_s + 0.001, self._work[0][0]) if self._work else self.now_s + 0.02

    def _spend(self, seconds: float) -> float:
        """A little more or less than it should be, and now and then much more."""
        noisy_s = seconds * self._random.lognormvariate(0, 0.08)
        if self._random.random() < 0.002:
            noisy_s += 0.02
        self.now_s += noisy_s
        return noisy_s

    def _slices(self, slices_s: Sequence[float]) -> Generator[None, None, None]:
        *others_s, last_s = slices_s
        for slice_s in others_s:
            self._spend(slice_s)
            yield
        self._spend(last_s)


def _pieces(chars: int, frames: int) -> list[tuple[int, int]]:
    """Characters and frames of each piece, two frames at least."""
    count = max(1, min(round(chars / _PIECE_CHARS), frames // 2))

    def share(whole: int, number: int) -> int:
        return whole * (number + 1) // count - whole * number // count

    return [(share(chars, number), share(frames, number)) for number in range(count)]
