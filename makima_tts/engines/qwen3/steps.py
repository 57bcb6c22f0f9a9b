"""What a turn does: prompts are read, frames made, chunks decoded and handed over; and what that takes.

In: a StepPlan. Out: chunks, ends and failures into the utterances' sinks; Costs. Does not know: threads, the
event loop, who takes part.
"""

import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import structlog
import torch

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.awaiting import Awaited
from makima_tts.engines.qwen3.costs import CostMeter
from makima_tts.engines.qwen3.failures import as_failure
from makima_tts.engines.qwen3.manner import FrameWatcher, Manner
from makima_tts.engines.qwen3.ramp import next_chunk_frames
from makima_tts.engines.qwen3.runner import Made, Runner, Sound
from makima_tts.engines.qwen3.scheduler import StepPlan
from makima_tts.engines.qwen3.utterance import NOTHING, EngineUtterance, Phase, PieceState
from makima_tts.engines.qwen3.voices import LoadedVoice, LoadedVoices
from makima_tts.engines.qwen3.writing import Writing, piece_of
from makima_tts.errors import SynthesisError, TtsError
from makima_tts.model.frames import PrefillChunk
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel

DEVICE_IS_GONE: type | tuple[()] = getattr(torch, "AcceleratorError", ())  # torch 2.7 has no name for it
# What CUDA calls it where torch does not: of memory that torch did not ask for itself.
_CUDA_OUT_OF_MEMORY = 2
_WORDS = "The engine failed in the middle of this utterance."
_log = structlog.get_logger(__name__)


class Steps:
    """Engine thread only. ``fail`` ends an utterance with an error and frees its slot."""

    def __init__(
        self,
        model: SpeechModel,
        runner: Runner,
        manner: Manner,
        *,
        fail: Callable[[EngineUtterance, TtsError], None],
        watch: FrameWatcher | None,
    ) -> None:
        self._model = model
        self._runner = runner
        self._manner = manner
        self._fail = fail
        self._watch = watch
        self._voices = LoadedVoices(model)
        self._writing = Writing(model, runner, manner, self._voices)
        self._sampling = Sampling.of(model.config.generation, greedy=manner.greedy)
        self.frame_s = model.frame_samples / model.sample_rate_hz
        self.meter = CostMeter()
        self._readings: list[_Reading] = []
        self._soundings: list[_Sounding] = []

    def begin(self, utterance: EngineUtterance) -> None:
        """Its slot forgets whoever was there before."""
        request = utterance.request
        seed = secrets.randbits(63) if request.seed is None else request.seed
        codec = self._voices.get(request.voice).encoded.codec
        self._runner.begin(utterance.lease.slot, self._sampling, _signed(seed), codec)
        utterance.grows = self._writing.can_grow(utterance)

    def prepare(self, utterance: EngineUtterance) -> None:
        """Write what came of its piece."""
        self._writing.write(utterance, time.monotonic())

    def perform(self, plan: StepPlan, utterances: Mapping[int, EngineUtterance]) -> None:
        """``utterances`` by slot. Parts are read, frames made; chunks for those who have enough for one.

        Where the device runs ahead, the sound of the turn before is handed over while it makes this one's
        frames, and this one's sound with the next turn, or when there is none.
        """
        if plan.read:
            self._read({utterances[slot]: _taken(utterances[slot], count) for slot, count in plan.read})
        speaking = [each for slot in plan.speak if (each := utterances[slot]).phase is Phase.SPEAKING]
        if speaking:
            self._step(speaking, plan.hasten)
        if not (speaking and self._runner.runs_ahead):
            self.hand_over()

    def hand_over(self) -> bool:
        """What was started and not taken up is taken up now; False if there was nothing."""
        readings, self._readings = self._readings, []
        soundings, self._soundings = self._soundings, []
        for reading in readings:
            self._take(partial(self._take_reading, reading), reading.utterances)
        for sounding in soundings:
            self._take(partial(self._take_sound, sounding), [each for each, _piece in sounding.speaking])
        return bool(readings or soundings)

    def _take(self, act: Callable[[], None], concerned: Iterable[EngineUtterance]) -> None:
        try:
            act()
        except Exception as error:
            failure = self.failure(error)
            for utterance in concerned:
                self._fail(utterance, failure)

    def failure(self, error: Exception, words: str = _WORDS) -> TtsError:
        """What went wrong, for a client. Where memory did, what can be had again is let go first.

        Raises what a device can compute nothing after: CUDA answers every call with it from then on.
        """
        memory = _is_want_of_memory(error)
        if isinstance(error, DEVICE_IS_GONE) and not memory:
            raise error
        if memory:
            self._voices.let_go()
            torch.cuda.empty_cache()
        return as_failure(error, words, memory=memory)

    def _read(self, parts: Mapping[EngineUtterance, list[PrefillChunk]]) -> None:
        """All at once."""
        if not parts:
            return
        together = [part for each in parts.values() for part in each]
        try:
            awaited = self._runner.read(together)
        except Exception as error:
            self._read_fewer(parts, error)
            return
        self._readings.append(_Reading(awaited, tuple(parts), sum(len(part.rows) for part in together)))
        for utterance in parts:
            try:
                self._was_read(utterance)
            except Exception as error:
                self._fail(utterance, self.failure(error))

    def _read_fewer(self, parts: Mapping[EngineUtterance, list[PrefillChunk]], error: Exception) -> None:
        """Without the newest, if memory does not suffice; else each alone: nobody takes others with him."""
        if len(parts) == 1 or _is_want_of_memory(error):
            newest = max(parts, key=lambda each: each.arrived_s)
            self._fail(newest, self.failure(error))
            self._read({each: some for each, some in parts.items() if each is not newest})
            return
        for utterance, some in parts.items():
            self._read({utterance: some})

    def _take_reading(self, reading: "_Reading") -> None:
        reading.awaited.wait()
        self.meter.read(reading.rows, reading.awaited.seconds)
        for utterance in reading.utterances:
            utterance.synthesis_s += reading.awaited.seconds

    def _was_read(self, utterance: EngineUtterance) -> None:
        """What depends on the voice is kept once it was read: the next one is spared that."""
        piece, unread = piece_of(utterance), _unread(utterance)
        if piece.unknown_rows and (not unread or unread[0].start >= piece.unknown_rows):
            voice, key = self._voices.get(utterance.request.voice), self._writing.constant_key(utterance)
            if voice.constant(*key) is None:
                self._keep_constant(utterance.lease.slot, piece.unknown_rows, voice, key)
            piece.unknown_rows = 0
        if not unread:
            utterance.phase = Phase.SPEAKING

    def _keep_constant(self, slot: int, rows: int, voice: LoadedVoice, key: tuple[str, bool]) -> None:
        try:
            voice.keep_constant(*key, self._runner.constant(slot, rows))
        except Exception as error:
            if not _is_want_of_memory(error):
                raise
            self.failure(error)  # the next one who speaks with it reads it again

    def _step(self, speaking: list[EngineUtterance], hasten: frozenset[int]) -> None:
        pieces = [piece_of(each) for each in speaking]
        awaited = self._start_frames(speaking, pieces)
        if self._runner.runs_ahead:
            self.hand_over()
        made = awaited.wait()
        self.meter.stepped(len(speaking), awaited.seconds)
        still = self._take_frames(speaking, pieces, made, awaited.seconds)
        self._start_sounds(still, hasten, len(speaking))

    def _start_frames(
        self, speaking: Sequence[EngineUtterance], pieces: Sequence[PieceState]
    ) -> Awaited[Made]:
        slots = [each.lease.slot for each in speaking]
        stepped = [slot for slot, piece in zip(slots, pieces, strict=True) if not piece.fresh]
        furthest = max(piece.position for piece in pieces)
        return self._runner.make(slots, stepped, furthest, [each.pending for each in speaking])

    def _take_frames(
        self, speaking: Sequence[EngineUtterance], pieces: Sequence[PieceState], made: Made, seconds: float
    ) -> list[EngineUtterance]:
        """Who still speaks: of the others, who came to their end meanwhile, a frame too many was made."""
        still = []
        for row, (utterance, piece) in enumerate(zip(speaking, pieces, strict=True)):
            if utterance.piece is not piece:
                continue
            utterance.synthesis_s += seconds
            piece.position += not piece.fresh
            piece.fresh = False
            if made.broken[row]:
                self._break(utterance)
                continue
            if made.ends[row]:
                piece.ended = True
            else:
                self._keep(utterance, piece, made.codes[row])
            still.append(utterance)
        return still

    def _keep(self, utterance: EngineUtterance, piece: PieceState, codes: npt.NDArray[np.int32]) -> None:
        utterance.pending += 1
        piece.frames += 1
        utterance.frames += 1
        if self._watch is not None:
            self._watch(utterance.request.utterance_id, codes.astype(np.int64))
        if piece.frames >= piece.budget_frames:
            piece.ended = utterance.cut = True
            utterance.over = utterance.frames == self._manner.max_frames

    def _break(self, utterance: EngineUtterance) -> None:
        _log.error("synthesis_not_a_number", slot=utterance.lease.slot)
        self._runner.scrub(utterance.lease.slot)
        self._fail(utterance, SynthesisError("The model made something that is not a number; try again."))

    def _start_sounds(
        self, speaking: Sequence[EngineUtterance], hasten: frozenset[int], streams: int
    ) -> None:
        """Those with equally many frames are decoded together, and first sounds first."""
        due: defaultdict[int, list[EngineUtterance]] = defaultdict(list)
        for utterance in speaking:
            piece = piece_of(utterance)
            enough = utterance.pending >= utterance.chunk_frames or utterance.lease.slot in hasten
            if enough or piece.ended or piece.is_used_up:
                due[utterance.pending].append(utterance)
        for frames, utterances in sorted(due.items()):
            if frames:
                self._start_sound(utterances, frames, streams)
                continue
            for utterance in utterances:
                self._deliver(utterance, NOTHING)

    def _start_sound(self, utterances: list[EngineUtterance], frames: int, streams: int) -> None:
        awaited = self._runner.decode([each.lease.slot for each in utterances], frames)
        for utterance in utterances:
            utterance.pending, utterance.decoding = 0, frames
        speaking = [(each, piece_of(each)) for each in utterances]
        self._soundings.append(_Sounding(awaited, speaking, frames, streams))

    def _take_sound(self, sounding: "_Sounding") -> None:
        sound, frames = sounding.awaited.wait(), sounding.frames
        self.meter.decoded(frames * len(sounding.speaking), sounding.awaited.seconds)
        rtf = self.meter.costs.turn_s(sounding.streams) / self.frame_s
        for row, (utterance, piece) in enumerate(sounding.speaking):
            if utterance.piece is not piece:
                continue
            utterance.synthesis_s += sounding.awaited.seconds
            utterance.decoding = 0
            if not sound.finite[row]:
                self._break(utterance)
                continue
            pcm = self._audible(utterance, piece, sound.pcm[row], sound.loud[row])
            if pcm.size:
                utterance.chunk_frames = next_chunk_frames(frames, rtf)
            self._deliver(utterance, pcm)

    def _audible(
        self, utterance: EngineUtterance, piece: PieceState, pcm: Pcm, loud: npt.NDArray[np.bool_]
    ) -> Pcm:
        if self._manner.raw:
            return pcm
        after_text = min(loud.size, max(0, piece.frames - piece.trailing))
        audible = utterance.silence.pass_on(pcm, loud, after_text=after_text)
        if utterance.silence.lost:
            piece.ended = utterance.cut = True
        return audible

    def _deliver(self, utterance: EngineUtterance, pcm: Pcm) -> None:
        duration_s = pcm.size / self._model.sample_rate_hz
        utterance.deliver(piece_of(utterance), pcm, duration_s, time.monotonic())


@dataclass(frozen=True, slots=True)
class _Reading:
    """Prompt rows that are being read, and whose."""

    awaited: Awaited[None]
    utterances: tuple[EngineUtterance, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class _Sounding:
    """Frames that are being decoded, so many of each of these; ``streams`` spoke in that turn."""

    awaited: Awaited[Sound]
    speaking: list[tuple[EngineUtterance, PieceState]]
    frames: int
    streams: int


def _is_want_of_memory(error: Exception) -> bool:
    code = getattr(error, "error_code", None)
    return isinstance(error, torch.OutOfMemoryError) or code == _CUDA_OUT_OF_MEMORY


def _unread(utterance: EngineUtterance) -> deque[PrefillChunk]:
    unread = piece_of(utterance).unread
    if unread is None:
        raise SynthesisError("A prompt that was not written cannot be read.")
    return unread


def _taken(utterance: EngineUtterance, count: int) -> list[PrefillChunk]:
    unread = _unread(utterance)
    return [unread.popleft() for _ in range(count)]


def _signed(seed: int) -> int:
    """The same 64 bits as a signed number, which is what tensors hold."""
    low = seed & (2**64 - 1)
    return low - 2**64 if low >= 2**63 else low
