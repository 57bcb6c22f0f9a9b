"""The engine's loop (admit, plan, run, deliver), and its thread: the only one that touches the device.

In: requests with their sinks, other work in slices, wake-ups, from any thread; a runner, prompts, a clock.
Out: chunks, ends and errors into the sinks; the engine's load. Does not know: the event loop, which device or
model computes.

What a device still computes is a pipeline of two stages. Prompts are prefilled and frames generated in an
iteration; decoding is started in it, and its sound is delivered when the device has computed it: where the
device runs ahead, in the next iteration, while it generates that one's frames.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import structlog
import torch

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.prompts import Prompts
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner, Sound, streams_that_fit
from makima_tts.engines.qwen3.scheduler import (
    CostMeter,
    EngineLoad,
    IterationPlan,
    Planner,
    UtteranceSnapshot,
    next_chunk_frames,
    plan_iteration,
    writing_budget_s,
)
from makima_tts.engines.qwen3.utterance import (
    NO_SOUND,
    CurrentPiece,
    EngineUtterance,
    Finishing,
    FrameWatcher,
    Generating,
    Prefilling,
    SynthesisOptions,
)
from makima_tts.errors import Cancelled, GpuOutOfMemory, SynthesisError, TtsError, TtsUnavailable
from makima_tts.model.devices import is_out_of_memory
from makima_tts.model.language_model import PrefillChunk
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import SpeechSink, UtteranceRequest

# torch 2.7 has no name for it.
DEVICE_ERROR: type | tuple[()] = getattr(torch, "AcceleratorError", ())
_SYNTHESIS_FAILED = "The engine failed in the middle of this utterance."
_ENCODING_FAILED = "The voice could not be encoded; try again."
# Of a compiler's or a driver's message, for the log.
_MAX_MESSAGE_CHARS = 600
_log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Work = Callable[[SpeechModel], Generator[None, None, Result]]
Arrivals = deque[tuple[UtteranceRequest, SpeechSink]]


@dataclass(frozen=True, slots=True)
class SideWork:
    """Other work on the device, in slices: it runs when streams can spare the time."""

    slices: Generator[None, None, Any]
    future: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Batch(Generic[Result]):
    """What the device computes for utterances, a row each. ``pieces``: to which the rows belong."""

    result: PendingResult[Result]
    utterances: list[EngineUtterance]
    pieces: list[CurrentPiece]

    def rows(self) -> Iterator[tuple[int, EngineUtterance]]:
        """Without those whose piece has ended meanwhile."""
        for row, (utterance, piece) in enumerate(zip(self.utterances, self.pieces, strict=True)):
            if utterance.piece is piece:
                yield row, utterance


class EngineLoop:
    """One thread only, which owns the device. Other threads append to ``arrivals`` and ``side_work``.

    ``clock``: seconds, monotonic. ``ended`` is called with the sink of every utterance that has ended;
    ``watch`` with every frame.
    """

    def __init__(
        self,
        runner: Runner,
        prompts: Prompts,
        *,
        slots: int,
        options: SynthesisOptions,
        clock: Callable[[], float],
        arrivals: Arrivals,
        side_work: deque[SideWork],
        ended: Callable[[SpeechSink], None] = lambda _sink: None,
        watch: FrameWatcher | None = None,
        planner: Planner = plan_iteration,
    ) -> None:
        self._runner = runner
        self._prompts = prompts
        self._options = options
        self._clock = clock
        self.arrivals = arrivals
        self.side_work = side_work
        self._ended = ended
        self._watch = watch
        self._planner = planner
        self._slots = slots
        self._utterances: dict[int, EngineUtterance] = {}  # by slot, in order of admission
        # The second stage of the pipeline: whose work was started, and what delivers its result.
        self._jobs: list[tuple[list[EngineUtterance], Callable[[], None]]] = []
        self._side_work_s = 0.0
        self.meter = CostMeter()
        self.load = EngineLoad()  # as of the last iteration; immutable, for any thread

    def iterate(self) -> bool:
        """False if there is nothing to do until something changes: text, credit, a cancel, an arrival."""
        self._admit()
        plan = self._plan()
        planned = {slot: self._utterances[slot] for slot in plan.slots}
        delivered = False
        with self._failing(planned.values()):
            self._start_prefill({planned[slot]: count for slot, count in plan.prefill})
            frames = self._start_frames([planned[slot] for slot in plan.generate])
            delivered = self._deliver()  # while the device generates
            if frames is not None:
                self._start_decoding(frames, plan.flush_now)
        if plan.side_work and (planned or not delivered):  # what was delivered may change the plan
            self._deliver()  # a slice may take longer
            self._run_slice()
        return bool(planned) or delivered or plan.side_work or self._can_admit_more()

    def end(self, error: TtsError) -> None:
        """Fail every utterance."""
        for utterance in tuple(self._utterances.values()):
            self._fail(utterance, error)

    def _admit(self) -> None:
        """Arrivals get free slots; utterances that are cancelled or complete leave; the others take text."""
        while self.arrivals and self._any_slot_free:
            request, sink = self.arrivals.popleft()
            # The lowest free slot, so that memory is touched late.
            slot = min(set(range(self._slots)) - self._utterances.keys())
            utterance = EngineUtterance(request, sink, slot, self._clock(), self._options.max_frames)
            self._utterances[slot] = utterance
            with self._failing([utterance]):
                self._prompts.begin(utterance)
        now_s = self._clock()
        for utterance in tuple(self._utterances.values()):
            if utterance.sink.cancelled:
                self._leave(utterance)
            elif not utterance.take_text(now_s):
                self._leave(utterance)
                utterance.sink.end(utterance.finish_reason)
        self._write_prompts(now_s)

    def _write_prompts(self, now_s: float) -> None:
        """When many come at once, some wait for the next iteration: running streams come first."""
        unwritten = [each for each in self._utterances.values() if each.has_unwritten_text]
        if not unwritten:
            return
        until_s = now_s + writing_budget_s(self._snapshots(), now_s, self.meter.costs)
        for utterance in unwritten:
            if self._clock() >= until_s:
                return
            with self._failing([utterance]):
                self._prompts.write(utterance, self._clock())

    def _can_admit_more(self) -> bool:
        unwritten = any(each.has_unwritten_text for each in self._utterances.values())
        return unwritten or bool(self.arrivals and self._any_slot_free)

    @property
    def _any_slot_free(self) -> bool:
        return len(self._utterances) < self._slots

    def _plan(self) -> IterationPlan:
        now_s = self._clock()
        side_work_since_s = self._side_work_s if self.side_work else None
        plan = self._planner(self._snapshots(), now_s, self.meter.costs, side_work_since_s)
        self.load = self._current_load(now_s)
        return plan

    def _snapshots(self) -> list[UtteranceSnapshot]:
        return [each.snapshot(self._runner.frame_s) for each in self._utterances.values()]

    def _current_load(self, now_s: float) -> EngineLoad:
        """Without credit an utterance goes on as fast as it is played, else as fast as it is generated."""
        costs, frame_s, running = self.meter.costs, self._runner.frame_s, self._utterances.values()
        rtf = costs.iteration_s(len(running)) / frame_s
        complete_at_s = (
            now_s + each.remaining_s(frame_s) * (rtf if each.sink.has_credit else 1.0) for each in running
        )
        return EngineLoad(costs, frame_s, tuple(complete_at_s))

    def _start_prefill(self, counts: Mapping[EngineUtterance, int]) -> None:
        self._prefill_together(
            {each: [each.chunks.popleft() for _ in range(count)] for each, count in counts.items()}
        )

    def _prefill_together(self, chunks: Mapping[EngineUtterance, list[PrefillChunk]]) -> None:
        if not chunks:
            return
        together = [chunk for some in chunks.values() for chunk in some]
        try:
            result = self._runner.prefill(together)
        except Exception as error:
            self._prefill_fewer(chunks, error)
            return
        rows = sum(len(chunk.rows) for chunk in together)
        self._jobs.append((list(chunks), partial(self._finish_prefill, result, list(chunks), rows)))
        for utterance in chunks:
            with self._failing([utterance]):
                self._after_prefill(utterance)

    def _prefill_fewer(self, chunks: Mapping[EngineUtterance, list[PrefillChunk]], error: Exception) -> None:
        """Without the newest, if memory does not suffice; else each alone, so that one failure is one
        utterance's."""
        if len(chunks) == 1 or is_out_of_memory(error):
            newest = max(chunks, key=lambda each: each.arrived_s)
            self._fail(newest, self._failure(error))
            self._prefill_together({each: some for each, some in chunks.items() if each is not newest})
            return
        for utterance, some in chunks.items():
            self._prefill_together({utterance: some})

    def _after_prefill(self, utterance: EngineUtterance) -> None:
        """Once the voice prefix is prefilled, it is kept for the next prompt with this voice."""
        state = utterance.state
        if not isinstance(state, Prefilling):
            return
        rows = state.uncached_rows
        if rows and (not state.chunks or state.chunks[0].start >= rows):
            self._keep_prefix(utterance, rows)
            state.uncached_rows = 0
        if not state.chunks:
            utterance.state = Generating()

    def _keep_prefix(self, utterance: EngineUtterance, rows: int) -> None:
        try:
            self._prompts.keep_prefix(utterance, rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._failure(error)  # frees memory; the next prompt is prefilled from its first row

    def _start_frames(self, utterances: Iterable[EngineUtterance]) -> _Batch[GeneratedFrames] | None:
        generating = [each for each in utterances if isinstance(each.state, Generating)]
        if not generating:
            return None
        slots, pieces = [each.slot for each in generating], [each.piece for each in generating]
        stepped = [slot for slot, piece in zip(slots, pieces, strict=True) if piece.frames]
        furthest = max(piece.next_position for piece in pieces)
        at = [piece.pending for piece in pieces]
        return _Batch(self._runner.generate_frames(slots, stepped, furthest, at), generating, pieces)

    def _start_decoding(self, batch: _Batch[GeneratedFrames], flush_now: frozenset[int]) -> None:
        """Streams with equally many frames are decoded together, and first sounds first.

        A device that does not run ahead has decoded them when ``decode`` returns: they are delivered then.
        """
        due: defaultdict[int, list[EngineUtterance]] = defaultdict(list)
        for utterance in self._keep_frames(batch):
            enough = utterance.piece.pending >= utterance.chunk_frames or utterance.slot in flush_now
            if enough or isinstance(utterance.state, Finishing) or utterance.piece.starved:
                due[utterance.piece.pending].append(utterance)
        for frames, utterances in sorted(due.items()):
            if frames:
                result = self._runner.decode([each.slot for each in utterances], frames)
                pieces = [each.start_decoding() for each in utterances]
                decoded, streams = _Batch(result, utterances, pieces), len(batch.utterances)
                self._jobs.append((utterances, partial(self._finish_decoding, decoded, frames, streams)))
                if not self._runner.runs_ahead:
                    self._deliver()
            else:
                for utterance in utterances:
                    self._put(utterance, NO_SOUND)

    def _keep_frames(self, batch: _Batch[GeneratedFrames]) -> Iterator[EngineUtterance]:
        """Whose frames are kept. A piece that has ended meanwhile has got a frame too many."""
        frames, seconds = batch.result.wait(), batch.result.seconds()
        self.meter.stepped(len(batch.utterances), seconds)
        for row, utterance in batch.rows():
            utterance.synthesis_s += seconds
            if frames.broken[row]:
                self._fail_broken(utterance)
                continue
            utterance.add_frame(is_end=bool(frames.ends[row]))
            if self._watch is not None and not frames.ends[row]:
                self._watch(utterance.request.utterance_id, frames.codes[row].astype(np.int64))
            yield utterance

    def _deliver(self) -> bool:
        """Wait for every job that was started, and hand its sound over. False if there was none."""
        jobs, self._jobs = self._jobs, []
        for utterances, finish in jobs:
            with self._failing(utterances):
                finish()
        return bool(jobs)

    def _finish_prefill(
        self, result: PendingResult[None], utterances: list[EngineUtterance], rows: int
    ) -> None:
        result.wait()
        self.meter.prefilled(rows, result.seconds())
        for utterance in utterances:
            utterance.synthesis_s += result.seconds()

    def _finish_decoding(self, batch: _Batch[Sound], frames: int, streams: int) -> None:
        """``frames`` of each. ``streams`` generated in that iteration."""
        sound, seconds = batch.result.wait(), batch.result.seconds()
        self.meter.decoded(frames * len(batch.utterances), seconds)
        rtf = self.meter.costs.iteration_s(streams) / self._runner.frame_s
        for row, utterance in batch.rows():
            utterance.synthesis_s += seconds
            utterance.piece.decoding = 0
            if not sound.finite[row]:
                self._fail_broken(utterance)
                continue
            pcm = self._audible(utterance, sound.pcm[row], sound.loud[row])
            if pcm.size:
                utterance.chunk_frames = next_chunk_frames(frames, rtf)
            self._put(utterance, pcm)

    def _audible(self, utterance: EngineUtterance, pcm: Pcm, loud: npt.NDArray[np.bool_]) -> Pcm:
        if self._options.raw:
            return pcm
        after_text = min(loud.size, max(0, utterance.piece.frames - utterance.piece.text_rows))
        audible = utterance.silence.pass_on(pcm, loud, after_text=after_text)
        if utterance.silence.lost:
            utterance.truncate()
        return audible

    def _put(self, utterance: EngineUtterance, pcm: Pcm) -> None:
        utterance.deliver(pcm, pcm.size / self._runner.sample_rate_hz, self._clock())

    def _run_slice(self) -> None:
        """Of the work that has waited longest."""
        began_s = self._clock()
        self._next_slice(self.side_work[0])
        self._side_work_s = self._clock()
        self.meter.sliced(self._side_work_s - began_s)

    def _next_slice(self, work: SideWork) -> None:
        try:
            if not work.future.cancelled():
                next(work.slices)
                return
        except StopIteration as end:
            with suppress(InvalidStateError):  # cancelled meanwhile
                work.future.set_result(end.value)
        except Exception as error:
            with suppress(InvalidStateError):
                work.future.set_exception(self._failure(error, _ENCODING_FAILED))
        self.side_work.popleft()

    @contextmanager
    def _failing(self, utterances: Iterable[EngineUtterance]) -> Iterator[None]:
        """An error inside ends these utterances and no other."""
        try:
            yield
        except Exception as error:
            failure = self._failure(error)
            for utterance in utterances:
                self._fail(utterance, failure)

    def _fail_broken(self, utterance: EngineUtterance) -> None:
        _log.error("synthesis_not_a_number", slot=utterance.slot)
        self._runner.scrub(utterance.slot)
        self._fail(utterance, SynthesisError("The model made something that is not a number; try again."))

    def _fail(self, utterance: EngineUtterance, error: TtsError) -> None:
        if self._utterances.get(utterance.slot) is utterance:
            self._leave(utterance)
            utterance.sink.fail(error)

    def _leave(self, utterance: EngineUtterance) -> None:
        del self._utterances[utterance.slot]
        utterance.end_piece()  # jobs that are under way skip it
        self._ended(utterance.sink)

    def _failure(self, error: Exception, message: str = _SYNTHESIS_FAILED) -> TtsError:
        """For the client; the log gets the type and the traceback. Out of memory: voices are released first.

        Raises an error after which the device computes nothing: CUDA answers every later call with it.
        """
        out_of_memory = is_out_of_memory(error)
        if isinstance(error, DEVICE_ERROR) and not out_of_memory:
            raise error
        if out_of_memory:
            self._prompts.release_voices()
            torch.cuda.empty_cache()
        if isinstance(error, TtsError):
            return error
        _log.error("synthesis_failed", engine="qwen3", exc_info=error)
        if out_of_memory:
            return GpuOutOfMemory("The GPU has no memory left for this; try again in a moment.")
        return SynthesisError(message)


class EngineThread:
    """``slots``: how many; 0 as many as there is memory for, which ``slots`` is once it has loaded.

    ``progress`` is called with the share, from 0 to 1, of the preparation. ``ended`` is called on the
    engine thread with the sink of every utterance that has ended, ``watch`` with every frame.
    """

    def __init__(
        self,
        load: Callable[[], SpeechModel],
        options: SynthesisOptions,
        *,
        slots: int,
        progress: Callable[[float], None],
        ended: Callable[[SpeechSink], None],
        watch: FrameWatcher | None,
    ) -> None:
        self.slots = slots
        self._load = load
        self._options = options
        self._progress = progress
        self._ended = ended
        self._watch = watch
        self._arrivals: Arrivals = deque()
        self._side_work: deque[SideWork] = deque()
        self._loop: EngineLoop | None = None  # while it runs
        self._wake = threading.Event()
        self._closing = self._stopped = False
        self._loaded: Future[SpeechModel] = Future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> Future[SpeechModel]:
        """Begins to load; errors are the future's."""
        self._thread.start()
        return self._loaded

    def speak(self, request: UtteranceRequest, sink: SpeechSink) -> None:
        self._arrivals.append((request, sink))
        self._wake_or_refuse()

    def run(self, work: Work[Result]) -> Future[Result]:
        """Other work, a slice at a time between iterations; cancelling the future ends it at the next one."""
        side_work = SideWork(work(self._loaded.result()))
        self._side_work.append(side_work)
        self._wake_or_refuse()
        return side_work.future

    def _wake_or_refuse(self) -> None:
        """The thread may have stopped meanwhile."""
        self._wake.set()
        if self._stopped:
            self._refuse_waiting()

    def wake(self) -> None:
        """Something has changed for an utterance: text, credit, a cancel."""
        self._wake.set()

    def close(self) -> None:
        """End everything with Cancelled, and wait until the thread has stopped. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def load(self) -> EngineLoad:
        """As of the last iteration; from any thread."""
        return EngineLoad() if self._loop is None else self._loop.load

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopped

    def _run(self) -> None:
        with torch.inference_mode():
            try:
                model = self._load()
                self._loop = loop = self._new_loop(model)
            except BaseException as error:
                if not isinstance(error, TtsError):  # no text has come yet that it could quote
                    _log.error("engine_not_loaded", engine="qwen3", message=str(error)[:_MAX_MESSAGE_CHARS])
                with suppress(InvalidStateError):  # the start was cancelled
                    self._loaded.set_exception(error)
                return
            with suppress(InvalidStateError):
                self._loaded.set_result(model)
            try:
                self._iterate(loop)
            except Exception as error:
                # A device's message quotes no text; others might.
                message = str(error)[:_MAX_MESSAGE_CHARS] if isinstance(error, DEVICE_ERROR) else None
                _log.exception("engine_thread_died", engine="qwen3", message=message)
            finally:
                self._stopped = True
                loop.end(self._last_error())
                self._loop = None  # frees the slots' buffers
                self._refuse_waiting()

    def _new_loop(self, model: SpeechModel) -> EngineLoop:
        positions = self._options.positions
        self.slots = self.slots or streams_that_fit(model, positions)
        runner = Runner(model, slots=self.slots, positions=positions, progress=self._progress)
        return EngineLoop(
            runner,
            Prompts(model, runner, self._options),
            slots=self.slots,
            options=self._options,
            clock=time.monotonic,
            arrivals=self._arrivals,
            side_work=self._side_work,
            ended=self._ended,
            watch=self._watch,
        )

    def _iterate(self, loop: EngineLoop) -> None:
        while not self._closing:
            self._wake.clear()  # before it looks at what has changed
            if not loop.iterate():
                self._wake.wait()

    def _refuse_waiting(self) -> None:
        """Arrivals and work that no iteration will take; two threads may do so at once."""
        with suppress(IndexError):
            while True:
                self._arrivals.popleft()[1].fail(self._last_error())
        with suppress(IndexError):
            while True:
                work = self._side_work.popleft()
                with suppress(InvalidStateError):
                    work.future.set_exception(TtsUnavailable(self._last_error().message))

    def _last_error(self) -> TtsError:
        if self._closing:
            return Cancelled("The engine was closed.")
        return TtsUnavailable("The engine has stopped; the server's log says why.")
