"""Runs steps on the device, and owns the buffers of all slots.

In: slots, prompts. Out: codes, ends and sound, as numpy arrays, once the device has computed them; the number
of streams there is memory for. Does not know: utterances, texts, listeners, when a step is due.

S slots and a spare one · B some of them · F frames of a chunk · Q codebooks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.scheduler import CHUNK_FRAMES
from makima_tts.model.codec_ops import CodecState
from makima_tts.model.devices import to_device
from makima_tts.model.language_model import FrameState, PrefillChunk, SampledFrames
from makima_tts.model.prompt import Prompt, split_into_chunks
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache

# Where memory is not the device's own; a CPU assigns it to a slot only when it is used.
STREAMS_WITHOUT_GPU = 8
# More gain nothing as far as is known: the step of so many takes a good part of a frame's time.
MAX_STREAMS = 256
# For what graphs compute with, for voices, and for other processes on this card.
_RESERVED_BYTES = 1 << 30
_USABLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class SlotBuffers:
    """What every slot holds, and a spare one more: ``codes`` int64 [S + 1, F, Q] are not decoded yet.

    The spare slot fills up batches; its results are not used. It stays at its first position, so that it has
    next to nothing to attend to.
    """

    frames: FrameState
    codec: CodecState
    codes: Tensor

    @classmethod
    def allocate(cls, model: SpeechModel, slots: int, positions: int) -> "SlotBuffers":
        codebooks = model.config.talker_config.num_code_groups
        frames = model.frames.new_state(slots + 1, positions, positions)
        frames.advance[slots] = 0
        return cls(
            frames,
            model.codec.new_state(slots + 1),
            torch.zeros(slots + 1, CHUNK_FRAMES[-1], codebooks, dtype=torch.int64, device=model.device),
        )

    @property
    def spare(self) -> int:
        return len(self.codes) - 1


@dataclass(frozen=True, slots=True)
class DecodeCall:
    """Sound of some of the slots, from number ``start`` on, and of ``frames`` from ``first`` on.

    ``packed``: of ``packed_sound``, [B, …].
    """

    start: int
    first: int
    frames: int
    packed: Tensor


def packed_frames(frames: SampledFrames) -> Tensor:
    """For the host: codes, whether they are an end, whether they are broken."""
    flags = torch.stack((frames.ends, frames.broken), dim=1)
    return torch.cat((frames.codes, flags), dim=1).int()


def packed_sound(pcm: Tensor, loud: Tensor, finite: Tensor) -> Tensor:
    """[B, F * samples] and twice bool [B, F], as numbers of the same type: [B, F * (samples + 2)]."""
    return torch.cat((pcm, loud.to(pcm.dtype), finite.to(pcm.dtype)), dim=1)


class StepExecutor:
    """Operations one by one, in batches as large as they are: on a CPU, and where nothing can be captured.

    ``most_rows``: of a chunk of a prompt. ``runs_ahead``: the device computes what was launched while the
    host does something else.
    """

    runs_ahead = False

    def __init__(self, model: SpeechModel, buffers: SlotBuffers, most_rows: int) -> None:
        self._model = model
        self._buffers = buffers
        self.most_rows = most_rows

    def prefill(self, chunks: Sequence[PrefillChunk]) -> None:
        """Those of a slot in order."""
        self._model.frames.prefill(self._buffers.frames, chunks)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]
    ) -> Tensor:
        """int32 [B, Q + 2] of ``packed_frames``; codes are kept at index ``at`` of each slot's chunk."""
        generator, state, index = self._model.frames, self._buffers.frames, self._index(slots)
        if stepped:
            generator.step(state, self._index(stepped), limit)
        frames = generator.generate(state, index)
        self._buffers.codes[index, self._index(at)] = frames.codes
        return packed_frames(frames)

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[DecodeCall]:
        """The first ``frames`` that are kept of each. The next call may overwrite the memory of a result."""
        index, buffers = self._index(slots), self._buffers
        pcm = self._model.codec.decode(buffers.codes[index, :frames], buffers.codec, index).float()
        yield DecodeCall(0, 0, frames, packed_sound(pcm, *self._model.loud_and_finite(pcm, frames)))

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._model.device)


def streams_that_fit(model: SpeechModel, positions: int) -> int:
    """At least one. Of a CUDA device's memory that is free now, once the model is loaded."""
    if model.device.type != "cuda":
        return STREAMS_WITHOUT_GPU
    torch.cuda.empty_cache()  # cached memory is free, but not counted as such
    free_bytes, _total = torch.cuda.mem_get_info(model.device)
    slot_and_spare = SlotBuffers.allocate(model, 1, positions)
    return slots_in(free_bytes, bytes_in(slot_and_spare) // 2)


def slots_in(free_bytes: int, slot_bytes: int) -> int:
    """Without the spare one."""
    usable_bytes = int(_USABLE_SHARE * free_bytes) - _RESERVED_BYTES
    return max(1, min(MAX_STREAMS, usable_bytes // slot_bytes - 1))


def bytes_in(state: object) -> int:
    """Of all tensors in it, dataclasses and collections within it included."""
    if isinstance(state, Tensor):
        return state.nbytes
    if is_dataclass(state):
        return sum(bytes_in(getattr(state, each.name)) for each in fields(state))
    values = state.values() if isinstance(state, dict) else state
    return sum(map(bytes_in, values)) if isinstance(values, Iterable) and not isinstance(values, str) else 0


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
    """Engine thread only. ``positions``: what each slot holds at most, and so many rows of text.

    ``runs_ahead``: the device computes what was started while the host does something else.
    ``progress`` is called with the share, from 0 to 1, of the preparation for the first step.
    """

    def __init__(
        self,
        model: SpeechModel,
        *,
        slots: int,
        positions: int,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.positions = positions
        self.sample_rate_hz = model.sample_rate_hz
        self.frame_s = model.frame_samples / model.sample_rate_hz
        self._model = model
        self._buffers = SlotBuffers.allocate(model, slots, positions)
        self._executor = _executor(model, self._buffers, progress)
        self.runs_ahead = self._executor.runs_ahead
        self._start = _start_on_cuda if model.device.type == "cuda" else _run_at_once

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
            return lambda: _unpacked(packed.numpy())

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
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    began.record()
    fetch = launch()
    ended.record()

    def wait() -> Result:
        ended.synchronize()
        return fetch()

    return PendingResult(wait, lambda: float(began.elapsed_time(ended)) / 1e3)


def _executor(model: SpeechModel, buffers: SlotBuffers, progress: Callable[[float], None]) -> StepExecutor:
    if model.device.type != "cuda":
        most_rows = _CPU_CHUNK_ROWS if model.device.type == "cpu" else _CHUNK_ROWS
        return StepExecutor(model, buffers, most_rows)
    from makima_tts.engines.qwen3.cuda_graphs import CudaCapture, CudaGraphExecutor  # noqa: PLC0415

    executor = CudaGraphExecutor(model, buffers, CudaCapture(model.device), progress=progress)
    torch.cuda.empty_cache()  # the memory of the warm-ups belongs to no graph
    return executor


def _unpacked(packed: npt.NDArray[np.int32]) -> GeneratedFrames:
    """``packed``: of ``packed_frames``, [B, Q + 2]."""
    return GeneratedFrames(packed[:, :-2], packed[:, -2].astype(bool), packed[:, -1].astype(bool))


def _to_host(tensor: Tensor) -> Tensor:
    """A copy: from CUDA into pinned memory, once everything before it is computed."""
    return tensor.to("cpu", non_blocking=tensor.device.type == "cuda", copy=True)
