"""The engine's loop: admit, plan, run, deliver.

In: requests with their sinks, other work in slices; a runner, prompts, a clock. Out: chunks, ends and errors
into the sinks; the engine's load. Does not know: threads, the event loop, which device or model computes.

What a device still computes is a pipeline of two stages. Prompts are prefilled and frames generated in an
iteration; decoding is started in it, and its sound is delivered when the device has computed it: where the
device runs ahead, in the next iteration, while it generates that one's frames.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
import torch

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.admission import EngineLoad
from makima_tts.engines.qwen3.costs import CostMeter
from makima_tts.engines.qwen3.prompts import Prompts
from makima_tts.engines.qwen3.runner import GeneratedFrames, PendingResult, Runner, Sound
from makima_tts.engines.qwen3.scheduler import (
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
    Slots,
    SynthesisOptions,
)
from makima_tts.errors import GpuOutOfMemory, SynthesisError, TtsError
from makima_tts.model.devices import is_out_of_memory
from makima_tts.model.language_model import PrefillChunk
from makima_tts.speech import SpeechSink, UtteranceRequest

# torch 2.7 has no name for it.
DEVICE_ERROR: type | tuple[()] = getattr(torch, "AcceleratorError", ())
_SYNTHESIS_FAILED = "The engine failed in the middle of this utterance."
_ENCODING_FAILED = "The voice could not be encoded; try again."
_log = structlog.get_logger(__name__)

Arrivals = deque[tuple[UtteranceRequest, SpeechSink]]


@dataclass(frozen=True, slots=True)
class SideWork:
    """Other work on the device, in slices: it runs when streams can spare the time."""

    slices: Generator[None, None, Any]
    future: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _PrefillJob:
    result: PendingResult[None]
    utterances: list[EngineUtterance]
    rows: int


@dataclass(frozen=True, slots=True)
class _FrameJob:
    """A frame of each; ``pieces``: to which the frames belong."""

    result: PendingResult[GeneratedFrames]
    utterances: list[EngineUtterance]
    pieces: list[CurrentPiece]


@dataclass(frozen=True, slots=True)
class _DecodeJob:
    """``frames`` of each; ``pieces``: to which they belong. ``streams`` generated in that iteration."""

    result: PendingResult[Sound]
    utterances: list[EngineUtterance]
    pieces: list[CurrentPiece]
    frames: int
    streams: int


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
        self._slots = Slots(slots)
        self._utterances: dict[int, EngineUtterance] = {}  # by slot, in order of admission
        self._jobs: list[_PrefillJob | _DecodeJob] = []  # the second stage of the pipeline
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
        while self.arrivals and (lease := self._slots.lease()) is not None:
            request, sink = self.arrivals.popleft()
            utterance = EngineUtterance(request, sink, lease, self._clock(), self._options.max_frames)
            self._utterances[lease.slot] = utterance
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
        return unwritten or bool(self.arrivals and self._slots.any_free)

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
        self._jobs.append(_PrefillJob(result, list(chunks), sum(len(chunk.rows) for chunk in together)))
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

    def _start_frames(self, utterances: Iterable[EngineUtterance]) -> _FrameJob | None:
        generating = [each for each in utterances if isinstance(each.state, Generating)]
        if not generating:
            return None
        slots, pieces = [each.lease.slot for each in generating], [each.piece for each in generating]
        stepped = [slot for slot, piece in zip(slots, pieces, strict=True) if piece.frames]
        furthest = max(piece.next_position for piece in pieces)
        at = [each.pending for each in generating]
        return _FrameJob(self._runner.generate_frames(slots, stepped, furthest, at), generating, pieces)

    def _start_decoding(self, job: _FrameJob, flush_now: frozenset[int]) -> None:
        """Streams with equally many frames are decoded together, and first sounds first.

        A device that does not run ahead has decoded them when ``decode`` returns: they are delivered then.
        """
        due: defaultdict[int, list[EngineUtterance]] = defaultdict(list)
        for utterance in self._keep_frames(job):
            enough = utterance.pending >= utterance.chunk_frames or utterance.lease.slot in flush_now
            if enough or isinstance(utterance.state, Finishing) or utterance.piece.starved:
                due[utterance.pending].append(utterance)
        for frames, utterances in sorted(due.items()):
            if frames:
                result = self._runner.decode([each.lease.slot for each in utterances], frames)
                pieces = [each.start_decoding() for each in utterances]
                self._jobs.append(_DecodeJob(result, utterances, pieces, frames, len(job.utterances)))
                if not self._runner.runs_ahead:
                    self._deliver()
            else:
                for utterance in utterances:
                    self._put(utterance, NO_SOUND)

    def _keep_frames(self, job: _FrameJob) -> Iterator[EngineUtterance]:
        """Whose frames are kept. A piece that has ended meanwhile has got a frame too many."""
        batch, seconds = job.result.wait(), job.result.seconds()
        self.meter.stepped(len(job.utterances), seconds)
        for row, (utterance, piece) in enumerate(zip(job.utterances, job.pieces, strict=True)):
            if utterance.piece is not piece:
                continue
            utterance.synthesis_s += seconds
            if batch.broken[row]:
                self._fail_broken(utterance)
                continue
            utterance.add_frame(is_end=bool(batch.ends[row]))
            if self._watch is not None and not batch.ends[row]:
                self._watch(utterance.request.utterance_id, batch.codes[row].astype(np.int64))
            yield utterance

    def _deliver(self) -> bool:
        """Wait for every job that was started, and hand its sound over. False if there was none."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            with self._failing(job.utterances):
                if isinstance(job, _PrefillJob):
                    self._finish_prefill(job)
                else:
                    self._finish_decoding(job)
        return bool(jobs)

    def _finish_prefill(self, job: _PrefillJob) -> None:
        job.result.wait()
        self.meter.prefilled(job.rows, job.result.seconds())
        for utterance in job.utterances:
            utterance.synthesis_s += job.result.seconds()

    def _finish_decoding(self, job: _DecodeJob) -> None:
        sound, seconds = job.result.wait(), job.result.seconds()
        self.meter.decoded(job.frames * len(job.utterances), seconds)
        rtf = self.meter.costs.iteration_s(job.streams) / self._runner.frame_s
        for row, (utterance, piece) in enumerate(zip(job.utterances, job.pieces, strict=True)):
            if utterance.piece is not piece:
                continue
            utterance.synthesis_s += seconds
            utterance.finish_decoding()
            if not sound.finite[row]:
                self._fail_broken(utterance)
                continue
            pcm = self._audible(utterance, sound.pcm[row], sound.loud[row])
            if pcm.size:
                utterance.chunk_frames = next_chunk_frames(job.frames, rtf)
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
        _log.error("synthesis_not_a_number", slot=utterance.lease.slot)
        self._runner.scrub(utterance.lease.slot)
        self._fail(utterance, SynthesisError("The model made something that is not a number; try again."))

    def _fail(self, utterance: EngineUtterance, error: TtsError) -> None:
        if self._utterances.get(utterance.lease.slot) is utterance:
            self._leave(utterance)
            utterance.sink.fail(error)

    def _leave(self, utterance: EngineUtterance) -> None:
        del self._utterances[utterance.lease.slot]
        utterance.end_piece()  # jobs that are under way skip it
        self._slots.release(utterance.lease)
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
