"""The engine thread: the only one that touches the device.

In: utterances, encodings, cancels, from any thread. Out: what they come to, through sinks and futures. Does
not know: the event loop, what a step does.

It sleeps when nobody has anything to do. Voices are encoded in slices between the steps of those who speak,
when these can spare the time.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
import torch

from makima_tts.engines.qwen3.admission import Load
from makima_tts.engines.qwen3.capacity import streams_that_fit
from makima_tts.engines.qwen3.manner import FrameWatcher, Manner
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.scheduler import StepPlan, plan_step, writing_s
from makima_tts.engines.qwen3.slots import Slots
from makima_tts.engines.qwen3.steps import DEVICE_IS_GONE, Steps
from makima_tts.engines.qwen3.utterance import EngineUtterance
from makima_tts.errors import Cancelled, TtsError, TtsUnavailable
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import SpeechSink, UtteranceRequest

_Result = TypeVar("_Result")
Work = Callable[[SpeechModel], Generator[None, None, _Result]]

# Of a compiler or a driver, for the log.
_MOST_WORDS = 600
_CLOSED = "The engine was closed."
_DIED = "The engine has stopped; the server's log says why."
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Job:
    """Work in slices. ``slices`` is None until it begins."""

    work: Work[Any]
    future: Future[Any] = field(default_factory=Future)
    slices: Generator[None, None, Any] | None = None


class EngineThread:
    """``slots``: how many; 0 as many as there is memory for, which ``slot_count`` is once it has loaded.

    ``progress`` hears, from 0 to 1, of what takes its time once the model is loaded.

    ``ended`` hears, on the engine thread, of every utterance that is over.

    ``watch`` hears every frame that is made.
    """

    def __init__(
        self,
        load: Callable[[], SpeechModel],
        manner: Manner,
        *,
        slots: int,
        progress: Callable[[float], None],
        ended: Callable[[SpeechSink], None],
        watch: FrameWatcher | None,
    ) -> None:
        self._load = load
        self._progress = progress
        self._manner = manner
        self.slot_count = slots
        self._ended = ended
        self._watch = watch
        self._arrivals: deque[tuple[UtteranceRequest, SpeechSink]] = deque()
        self._jobs: deque[_Job] = deque()
        self._utterances: list[EngineUtterance] = []
        self._slots = Slots(0)
        self._wake = threading.Event()
        self._closing = self._over = False
        self._worked_s = 0.0
        self._load_now = Load()
        self._loaded: Future[SpeechModel] = Future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> Future[SpeechModel]:
        """Loads; what it raises is the future's."""
        self._thread.start()
        return self._loaded

    def speak(self, request: UtteranceRequest, sink: SpeechSink) -> None:
        self._arrivals.append((request, sink))
        self._notice()

    def do(self, work: Work[_Result]) -> Future[_Result]:
        """Run ``work`` in slices; a cancelled future ends it at the next one."""
        job = _Job(work)
        self._jobs.append(job)
        self._notice()
        return job.future

    def _notice(self) -> None:
        """Something came, perhaps to a thread that has ended meanwhile."""
        self._wake.set()
        if self._over:
            self._turn_away()

    def wake(self) -> None:
        """Something changed for an utterance: text, credit, a cancel."""
        self._wake.set()

    def close(self) -> None:
        """End everything with Cancelled, and wait until the thread has ended. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def load(self) -> Load:
        """As of the last turn; from any thread."""
        return self._load_now

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._over

    def _run(self) -> None:
        with torch.inference_mode():
            try:
                model = self._load()
                runner = self._new_runner(model)
                steps = Steps(model, runner, self._manner, fail=self._fail, watch=self._watch)
            except BaseException as error:  # whoever waits hears all of it
                if not isinstance(error, TtsError):  # nobody has said anything yet that it could quote
                    _log.error("engine_not_loaded", engine="qwen3", words=str(error)[:_MOST_WORDS])
                with _nobody_waits():
                    self._loaded.set_exception(error)
                return
            with _nobody_waits():
                self._loaded.set_result(model)
            try:
                while not self._closing:
                    self._turn(model, steps)
            except Exception as error:
                _log.exception("engine_thread_died", engine="qwen3", words=_words_of_the_device(error))
            finally:
                self._over = True
                self._end_all()

    def _new_runner(self, model: SpeechModel) -> Runner:
        positions = self._manner.positions
        self.slot_count = self.slot_count or streams_that_fit(model, positions, positions)
        self._slots = Slots(self.slot_count)
        return Runner(
            model,
            slots=self.slot_count,
            positions=positions,
            text_rows=positions,
            progress=self._progress,
        )

    def _turn(self, model: SpeechModel, steps: Steps) -> None:
        self._wake.clear()
        self._admit(steps)
        self._sweep(steps)
        now_s = time.monotonic()
        plan = plan_step(
            [each.standing(steps.frame_s) for each in self._utterances],
            now_s,
            steps.meter.costs,
            work_since_s=self._worked_s if self._jobs else None,
        )
        self._load_now = self._load_as_it_is(steps, now_s)
        if plan.read or plan.speak:
            self._perform(steps, plan)
        elif steps.hand_over():
            return  # which may change who can do what
        if plan.work:
            steps.hand_over()
            self._slice(model, steps)
        elif not (plan.read or plan.speak):
            self._wake.wait()

    def _admit(self, steps: Steps) -> None:
        """Whoever finds no slot waits for one: a cancelled utterance may be about to free it."""
        while self._arrivals and (lease := self._slots.lease()) is not None:
            request, sink = self._arrivals.popleft()
            utterance = EngineUtterance(request, sink, lease, since_s=time.monotonic())
            self._utterances.append(utterance)
            try:
                steps.begin(utterance)
            except Exception as error:
                self._fail(utterance, steps.failure(error))

    def _sweep(self, steps: Steps) -> None:
        """Those who are cancelled or have said everything leave; the others take up what they can."""
        now_s = time.monotonic()
        for utterance in tuple(self._utterances):
            if utterance.sink.cancelled:
                self._leave(utterance)
            elif not utterance.advance(now_s):
                self._leave(utterance)
                utterance.sink.end(utterance.finish_reason)
        if newcomers := [each for each in self._utterances if each.is_to_be_written]:
            self._write(steps, newcomers, now_s)

    def _write(self, steps: Steps, newcomers: Sequence[EngineUtterance], now_s: float) -> None:
        """Prompts. When many come at once, some wait for the next turn: those who speak are first."""
        standings = [each.standing(steps.frame_s) for each in self._utterances]
        until_s = now_s + writing_s(standings, now_s, steps.meter.costs)
        for utterance in newcomers:
            if time.monotonic() >= until_s:
                self._wake.set()
                return
            self._prepare(steps, utterance)

    def _prepare(self, steps: Steps, utterance: EngineUtterance) -> None:
        try:
            steps.prepare(utterance)
        except Exception as error:  # its own alone: nobody else has anything to do with this prompt
            self._fail(utterance, steps.failure(error))

    def _load_as_it_is(self, steps: Steps, now_s: float) -> Load:
        """Whoever has no credit is told the rest as fast as he hears it, the others as fast as it is made."""
        costs, speaking = steps.meter.costs, self._utterances
        rtf = costs.turn_s(len(speaking)) / steps.frame_s
        leaving_s = (
            now_s + each.unsaid_s(steps.frame_s) * (rtf if each.sink.has_credit else 1.0) for each in speaking
        )
        return Load(costs, steps.frame_s, tuple(leaving_s))

    def _perform(self, steps: Steps, plan: StepPlan) -> None:
        utterances = {each.lease.slot: each for each in self._utterances}
        try:
            steps.perform(plan, utterances)
        except Exception as error:
            failure = steps.failure(error)
            for slot in {*plan.speak, *(slot for slot, _count in plan.read)}:
                self._fail(utterances[slot], failure)

    def _fail(self, utterance: EngineUtterance, error: TtsError) -> None:
        if utterance in self._utterances:
            self._leave(utterance)
            utterance.sink.fail(error)

    def _leave(self, utterance: EngineUtterance) -> None:
        self._utterances.remove(utterance)
        utterance.end_piece()  # what is still being made of it is nobody's
        self._slots.release(utterance.lease)
        self._ended(utterance.sink)
        self._wake.set()  # somebody may wait for the slot

    def _slice(self, model: SpeechModel, steps: Steps) -> None:
        """One slice of the job that has waited longest."""
        began_s = time.monotonic()
        self._do_slice(model, steps)
        self._worked_s = time.monotonic()
        steps.meter.sliced(self._worked_s - began_s)

    def _do_slice(self, model: SpeechModel, steps: Steps) -> None:
        job = self._jobs[0]
        if job.slices is None:
            job.slices = job.work(model)
        try:
            if not job.future.cancelled():
                next(job.slices)
                return
        except StopIteration as end:
            with _nobody_waits():
                job.future.set_result(end.value)
        except Exception as error:
            with _nobody_waits():
                job.future.set_exception(steps.failure(error, "The voice could not be encoded; try again."))
        self._jobs.popleft()

    def _end_all(self) -> None:
        for utterance in tuple(self._utterances):
            self._fail(utterance, self._last_word())
        self._turn_away()

    def _turn_away(self) -> None:
        """Whoever still waits for a slot or a slice; may meet itself on two threads."""
        with contextlib.suppress(IndexError):
            while True:
                self._arrivals.popleft()[1].fail(self._last_word())
        with contextlib.suppress(IndexError):
            while True:
                with _nobody_waits():
                    self._jobs.popleft().future.set_exception(TtsUnavailable(self._last_word().message))

    def _last_word(self) -> TtsError:
        return Cancelled(_CLOSED) if self._closing else TtsUnavailable(_DIED)


def _words_of_the_device(error: Exception) -> str | None:
    """They quote nobody; others might."""
    return str(error)[:_MOST_WORDS] if isinstance(error, DEVICE_IS_GONE) else None


def _nobody_waits() -> contextlib.suppress:
    """Whoever asked may have gone away meanwhile, and so cancelled the future."""
    return contextlib.suppress(InvalidStateError)
