"""Carries steps out on the device, and owns the buffers of all slots.

In: slots, prompts, which rows take part. Out: codes, ends and sound, as numpy arrays, once they are there.
Does not know: utterances, texts, listeners, when a step is due.

S slots · B some of them · F frames of a chunk · Q codebooks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.audio import Pcm
from makima_tts.engines.qwen3.awaiting import Awaited, start_here, start_on_cuda
from makima_tts.engines.qwen3.captured import Captured
from makima_tts.engines.qwen3.graphs import CudaCapture
from makima_tts.engines.qwen3.launches import Decoded, Eager, Launches, SlotBuffers
from makima_tts.model.frames import PrefillChunk, split_into_chunks
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transfers import sent
from makima_tts.model.transformer import KeyValueCache

# Attention looks at so many positions at a time: whoever is further than others decides for all.
_LIMIT_MULTIPLE = 64
# Whoever speaks waits for no more than a part of a prompt: a tenth of a second of a CPU's time. Accelerators
# read more in the time that a launch takes. Constants, since what is read together decides the last bits.
_CPU_PART_ROWS = 32
_PART_ROWS = 128


@dataclass(frozen=True, slots=True)
class Made:
    """One frame of each of some slots. ``codes``: int [n, Q]; ``ends`` and ``broken``: bool [n]."""

    codes: npt.NDArray[np.int32] = field(repr=False)
    ends: npt.NDArray[np.bool_]
    broken: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sound:
    """Frames as sound: ``pcm`` [n, F * samples]. ``loud``: bool [n, F]; ``finite``: bool [n]."""

    pcm: Pcm = field(repr=False)
    loud: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]


class Runner:
    """Engine thread only. ``positions`` and ``text_rows``: what each slot holds at most.

    ``progress`` hears, from 0 to 1, of what takes its time before the first step.
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
        self._model = model
        self._buffers = SlotBuffers.allocate(model, slots, positions, text_rows)
        self._launches = _launches(model, self._buffers, progress)
        self._start = start_on_cuda if model.device.type == "cuda" else start_here

    @property
    def runs_ahead(self) -> bool:
        """What was started goes on while the host does something else."""
        return self._launches.runs_ahead

    def begin(self, slot: int, sampling: Sampling, seed: int, codec: Mapping[str, Tensor]) -> None:
        """A new utterance. ``codec``: the state its sound goes on from; empty for the beginning of sound."""
        self._model.frames.begin_utterance(self._buffers.frames, slot, sampling, seed)
        if codec:
            self._buffers.codec.put_row(slot, codec)
        else:
            self._buffers.codec.reset(sent(torch.tensor([slot]), self._model.device))

    def parts(
        self, slot: int, prompt: Prompt, *, frame: int = 0, prefix_cached: bool = False
    ) -> list[PrefillChunk]:
        """What is to be read of a prompt, in order; ``prefix_cached``: its constant rows will be put.

        ``frame``: so many frames of its utterance were made before it.
        """
        return split_into_chunks(
            prompt, slot, self._launches.most_rows, frame=frame, prefix_cached=prefix_cached
        )

    def constant(self, slot: int, rows: int) -> KeyValueCache:
        """What came of the ``rows`` that depend on the voice; put elsewhere, it spares reading them."""
        return self._model.frames.constant(self._buffers.frames, slot, rows)

    def put_constant(self, slot: int, constant: KeyValueCache) -> None:
        self._model.frames.put_constant(self._buffers.frames, slot, constant)

    def append(self, slot: int, at: int, rows: Tensor) -> None:
        """Text of a prompt that was read, [N, E], after the ``at`` trailing rows that there are."""
        self._model.frames.append_text(self._buffers.frames, slot, at, rows)

    def read(self, parts: Sequence[PrefillChunk]) -> Awaited[None]:
        """Read parts of prompts, of one slot in order."""
        return self._start(lambda: self._read(parts))

    def _read(self, parts: Sequence[PrefillChunk]) -> Callable[[], None]:
        self._launches.read(parts)
        return lambda: None

    def make(
        self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]
    ) -> Awaited[Made]:
        """A frame for each slot, kept at place ``at`` of its chunk.

        ``stepped``: those whose frame is no prompt's first. ``furthest``: the highest position of all.
        """
        limit = min(self.positions, _up(furthest + 1, _LIMIT_MULTIPLE))
        return self._start(lambda: self._make(slots, stepped, limit, at))

    def _make(
        self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]
    ) -> Callable[[], Made]:
        told = _brought(self._launches.make(slots, stepped, limit, at))  # [B, Q + 2]

        def made() -> Made:
            numbers = told.numpy()
            return Made(numbers[:, :-2], numbers[:, -2].astype(bool), numbers[:, -1].astype(bool))

        return made

    def decode(self, slots: Sequence[int], frames: int) -> Awaited[Sound]:
        """The first ``frames`` that are kept of each of these slots."""
        return self._start(lambda: self._decode(slots, frames))

    def _decode(self, slots: Sequence[int], frames: int) -> Callable[[], Sound]:
        calls = [
            (call.start, call.first, call.frames, _brought(call.sound))
            for call in self._launches.decode(slots, frames)
        ]
        return lambda: self._joined([Decoded(*call) for call in calls], len(slots), frames)

    def _joined(self, calls: Sequence[Decoded], count: int, frames: int) -> Sound:
        """Of several calls, some of the slots or of the frames each."""
        samples = self._model.frame_samples
        pcm = np.empty((count, frames * samples), _NUMPY[calls[0].sound.dtype])
        flags = np.empty((2, count, frames), bool)
        for call in calls:
            numbers, rows = call.sound.numpy(), slice(call.start, call.start + len(call.sound))
            sound = call.frames * samples
            pcm[rows, call.first * samples : call.first * samples + sound] = numbers[:, :sound]
            told = numbers[:, sound:].reshape(len(numbers), 2, call.frames)
            flags[:, rows, call.first : call.first + call.frames] = told.swapaxes(0, 1) != 0
        return Sound(pcm, flags[0], flags[1].all(axis=1))

    def scrub(self, slot: int) -> None:
        """After NaN: masked keys count nothing, but nothing times NaN is NaN."""
        state = self._buffers.frames
        cache = state.cache.rows(slot, 1)
        for tensor in (cache.keys, cache.values, state.hidden[slot], state.row[slot]):
            tensor.zero_()


_NUMPY = {torch.float32: np.float32, torch.int16: np.int16}


def _launches(model: SpeechModel, buffers: SlotBuffers, progress: Callable[[float], None]) -> Launches:
    match model.device.type:
        case "cuda":
            captured = Captured(model, buffers, CudaCapture(model.device), progress=progress)
            torch.cuda.empty_cache()  # what the warm-ups computed with is no graph's
            return captured
        case "cpu":
            return Eager(model, buffers, _CPU_PART_ROWS)
        case _:
            return Eager(model, buffers, _PART_ROWS)


def _brought(tensor: Tensor) -> Tensor:
    """A copy for the host: from CUDA into pinned memory, when everything before has been computed."""
    return tensor.to("cpu", non_blocking=tensor.device.type == "cuda", copy=True)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
