"""Runs steps on the device, and owns the buffers of all slots.

In: slots, prompts. Out: codes, ends and sound, as numpy arrays, once the device has computed them. Does not
know: utterances, texts, listeners, when a step is due.

S slots · B some of them · F frames of a chunk · Q codebooks.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.cuda_graphs import CudaCapture, CudaGraphExecutor
from makima_tts.engines.qwen3.executors import DecodeCall, EagerExecutor, SlotBuffers, StepExecutor
from makima_tts.model.devices import to_device
from makima_tts.model.language_model import PrefillChunk
from makima_tts.model.prompt import Prompt, split_into_chunks
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache

# Attention looks at a multiple of so many positions: the longest stream of a batch decides for all.
_LIMIT_MULTIPLE = 64
# Streams wait for no more than a chunk of a prompt: a tenth of a second of a CPU's time. Accelerators prefill
# more in the time that a launch takes. Constants, since what is prefilled together decides the last bits.
_CPU_CHUNK_ROWS = 32
_CHUNK_ROWS = 128
_NUMPY = {torch.float32: np.float32, torch.int16: np.int16}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PendingResult(Generic[Result]):
    """Work that was started on a device. ``wait`` returns its result, and may be called once.

    ``seconds``: how long the device took for it, without what was started before; known after ``wait``.
    """

    wait: Callable[[], Result]
    seconds: Callable[[], float]


@dataclass(frozen=True, slots=True)
class GeneratedFrames:
    """One frame of each of some slots. ``codes``: int [B, Q]; ``ends`` and ``broken``: bool [B]."""

    codes: npt.NDArray[np.int32] = field(repr=False)
    ends: npt.NDArray[np.bool_]
    broken: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sound:
    """Decoded frames: ``pcm`` [B, F * samples]. ``loud``: bool [B, F]; ``finite``: bool [B]."""

    pcm: Pcm = field(repr=False)
    loud: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]


class Runner:
    """Engine thread only. ``positions`` and ``text_rows``: what each slot holds at most.

    ``progress`` is called with the share, from 0 to 1, of the preparation for the first step.
    """

    def __init__(
        self,
        model: SpeechModel,
        *,
        slots: int,
        positions: int,
        text_rows: int,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.positions = positions
        self.text_rows = text_rows
        self.sample_rate_hz = model.sample_rate_hz
        self.frame_s = model.frame_samples / model.sample_rate_hz
        self._model = model
        self._buffers = SlotBuffers.allocate(model, slots, positions, text_rows)
        self._executor = _executor(model, self._buffers, progress)
        self._start = _start_on_cuda if model.device.type == "cuda" else _run_at_once

    @property
    def runs_ahead(self) -> bool:
        """The device computes what was started while the host does something else."""
        return self._executor.runs_ahead

    def begin(self, slot: int, sampling: Sampling, seed: int, codec: Mapping[str, Tensor]) -> None:
        """A new utterance. ``codec``: the state that its sound continues from; empty for none."""
        self._model.frames.begin_utterance(self._buffers.frames, slot, sampling, seed)
        if codec:
            self._buffers.codec.put_row(slot, codec)
        else:
            self._buffers.codec.reset(to_device(torch.tensor([slot]), self._model.device))

    def prefill_chunks(
        self, slot: int, prompt: Prompt, *, frame: int = 0, prefix_cached: bool = False
    ) -> list[PrefillChunk]:
        """A prompt, split. ``prefix_cached``: ``restore_prefix`` is called instead of prefilling the prefix.

        ``frame``: so many frames of its utterance were generated before it.
        """
        most_rows = self._executor.most_rows
        return split_into_chunks(prompt, slot, most_rows, frame=frame, prefix_cached=prefix_cached)

    def prefix(self, slot: int, rows: int) -> KeyValueCache:
        """A copy of keys and values of the voice prefix, which has ``rows`` rows, once it is prefilled."""
        return self._model.frames.copy_prefix(self._buffers.frames, slot, rows)

    def restore_prefix(self, slot: int, prefix: KeyValueCache) -> None:
        self._model.frames.restore_prefix(self._buffers.frames, slot, prefix)

    def append_text(self, slot: int, at: int, rows: Tensor) -> None:
        """Text of a prompt that was prefilled, [N, E], after its first ``at`` trailing rows."""
        self._model.frames.append_text(self._buffers.frames, slot, at, rows)

    def prefill(self, chunks: Sequence[PrefillChunk]) -> PendingResult[None]:
        """Chunks of prompts; those of a slot in order."""

        def launch() -> Callable[[], None]:
            self._executor.prefill(chunks)
            return lambda: None

        return self._start(launch)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]
    ) -> PendingResult[GeneratedFrames]:
        """A frame for each slot, kept at index ``at`` of its chunk.

        ``stepped``: those whose frame is not the first of a prompt. ``furthest``: the highest position of
        all.
        """
        limit = min(self.positions, -(-(furthest + 1) // _LIMIT_MULTIPLE) * _LIMIT_MULTIPLE)

        def launch() -> Callable[[], GeneratedFrames]:
            packed = _to_host(self._executor.generate_frames(slots, stepped, limit, at))  # [B, Q + 2]
            return lambda: _frame_batch(packed.numpy())

        return self._start(launch)

    def decode(self, slots: Sequence[int], frames: int) -> PendingResult[Sound]:
        """The first ``frames`` that are kept of each of these slots."""

        def launch() -> Callable[[], Sound]:
            calls = [
                DecodeCall(call.start, call.first, call.frames, _to_host(call.packed))
                for call in self._executor.decode(slots, frames)
            ]
            return lambda: self._joined(calls, len(slots), frames)

        return self._start(launch)

    def _joined(self, calls: Sequence[DecodeCall], count: int, frames: int) -> Sound:
        """Of several calls, each for some of the slots or some of the frames."""
        samples = self._model.frame_samples
        pcm = np.empty((count, frames * samples), _NUMPY[calls[0].packed.dtype])
        flags = np.empty((2, count, frames), bool)
        for call in calls:
            numbers, rows = call.packed.numpy(), slice(call.start, call.start + len(call.packed))
            end = call.frames * samples
            pcm[rows, call.first * samples : call.first * samples + end] = numbers[:, :end]
            packed_flags = numbers[:, end:].reshape(len(numbers), 2, call.frames)
            flags[:, rows, call.first : call.first + call.frames] = packed_flags.swapaxes(0, 1) != 0
        return Sound(pcm, flags[0], flags[1].all(axis=1))

    def scrub(self, slot: int) -> None:
        """After NaN: the weight of masked keys is zero, but zero times NaN is NaN."""
        state = self._buffers.frames
        cache = state.cache.rows(slot, 1)
        for tensor in (cache.keys, cache.values, state.hidden[slot], state.row[slot]):
            tensor.zero_()


# Starts work and returns a function that fetches its result, once the device has computed it.
Launch = Callable[[], Callable[[], Result]]


def _run_at_once(launch: Launch[Result]) -> PendingResult[Result]:
    """The work is complete when this returns."""
    began_s = time.perf_counter()
    result = launch()()
    took_s = time.perf_counter() - began_s
    return PendingResult(lambda: result, lambda: took_s)


def _start_on_cuda(launch: Launch[Result]) -> PendingResult[Result]:
    """Returns as soon as the work is launched; the host may do something else meanwhile."""
    began, ended = _event(), _event()
    began.record()
    fetch = launch()
    ended.record()

    def wait() -> Result:
        ended.synchronize()
        return fetch()

    return PendingResult(wait, lambda: float(began.elapsed_time(ended)) / 1e3)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _executor(model: SpeechModel, buffers: SlotBuffers, progress: Callable[[float], None]) -> StepExecutor:
    match model.device.type:
        case "cuda":
            executor = CudaGraphExecutor(model, buffers, CudaCapture(model.device), progress=progress)
            torch.cuda.empty_cache()  # the memory of the warm-ups belongs to no graph
            return executor
        case "cpu":
            return EagerExecutor(model, buffers, _CPU_CHUNK_ROWS)
        case _:
            return EagerExecutor(model, buffers, _CHUNK_ROWS)


def _frame_batch(packed: npt.NDArray[np.int32]) -> GeneratedFrames:
    """As ``executors.packed_frames`` has packed it, [B, Q + 2]."""
    return GeneratedFrames(packed[:, :-2], packed[:, -2].astype(bool), packed[:, -1].astype(bool))


def _to_host(tensor: Tensor) -> Tensor:
    """A copy: from CUDA into pinned memory, once everything before it is computed."""
    return tensor.to("cpu", non_blocking=tensor.device.type == "cuda", copy=True)
