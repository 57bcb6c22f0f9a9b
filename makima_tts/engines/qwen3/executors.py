"""What executes a step on the device: the interface, the eager executor, and the buffers of all slots.

In: slots, chunks of prompts. Out: tensors on the device; the number of streams there is memory for. Does not
know: utterances, when results are waited for.

S slots and a spare one · B some of them · F frames of a chunk · Q codebooks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Protocol

import torch
from torch import Tensor

from makima_tts.engines.qwen3.costs import CHUNK_FRAMES
from makima_tts.model.codec_ops import CodecState
from makima_tts.model.language_model import FrameState, PrefillChunk, SampledFrames
from makima_tts.model.speech_model import SpeechModel

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
    def allocate(cls, model: SpeechModel, slots: int, positions: int, text_rows: int) -> "SlotBuffers":
        codebooks = model.config.talker_config.num_code_groups
        frames = model.frames.new_state(slots + 1, positions, text_rows)
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


class StepExecutor(Protocol):
    """``most_rows``: of a chunk of a prompt. ``runs_ahead``: the device computes what was launched while the
    host does something else."""

    @property
    def most_rows(self) -> int: ...

    @property
    def runs_ahead(self) -> bool: ...

    def prefill(self, chunks: Sequence[PrefillChunk]) -> None:
        """Those of a slot in order."""

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]
    ) -> Tensor:
        """int32 [B, Q + 2] of ``packed_frames``; codes are kept at index ``at`` of each slot's chunk."""

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[DecodeCall]:
        """The first ``frames`` that are kept of each. The next call may overwrite the memory of a result."""


def packed_frames(frames: SampledFrames) -> Tensor:
    """For the host: codes, whether they are an end, whether they are broken."""
    flags = torch.stack((frames.ends, frames.broken), dim=1)
    return torch.cat((frames.codes, flags), dim=1).int()


def packed_sound(pcm: Tensor, loud: Tensor, finite: Tensor) -> Tensor:
    """[B, F * samples] and twice bool [B, F], as numbers of the same type: [B, F * (samples + 2)]."""
    return torch.cat((pcm, loud.to(pcm.dtype), finite.to(pcm.dtype)), dim=1)


class EagerExecutor:
    """On a CPU, and where nothing can be captured: operations one by one, batches as large as they are."""

    runs_ahead = False

    def __init__(self, model: SpeechModel, buffers: SlotBuffers, most_rows: int) -> None:
        self._model = model
        self._buffers = buffers
        self.most_rows = most_rows

    def prefill(self, chunks: Sequence[PrefillChunk]) -> None:
        self._model.frames.prefill(self._buffers.frames, chunks)

    def generate_frames(
        self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]
    ) -> Tensor:
        generator, state, index = self._model.frames, self._buffers.frames, self._index(slots)
        if stepped:
            generator.step(state, self._index(stepped), limit)
        frames = generator.generate(state, index)
        self._buffers.codes[index, self._index(at)] = frames.codes
        return packed_frames(frames)

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[DecodeCall]:
        """float32, from -1 to 1."""
        index, buffers = self._index(slots), self._buffers
        pcm = self._model.codec.decode(buffers.codes[index, :frames], buffers.codec, index).float()
        yield DecodeCall(0, 0, frames, packed_sound(pcm, *self._model.loud_and_finite(pcm, frames)))

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._model.device)


def streams_that_fit(model: SpeechModel, positions: int, text_rows: int) -> int:
    """At least one. Of a CUDA device's memory that is free now, once the model is loaded."""
    if model.device.type != "cuda":
        return STREAMS_WITHOUT_GPU
    torch.cuda.empty_cache()  # cached memory is free, but not counted as such
    free_bytes, _total = torch.cuda.mem_get_info(model.device)
    slot_and_spare = SlotBuffers.allocate(model, 1, positions, text_rows)
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
