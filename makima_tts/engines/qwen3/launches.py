"""The launches of a step, whatever carries them out; and those that take shapes as they come.

In: slots, parts of prompts. Out: tensors on the device. Does not know: utterances, what is waited for.

S slots and a spare one · B some of them · F frames of a chunk · Q codebooks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from makima_tts.engines.qwen3.ramp import RAMP_FRAMES
from makima_tts.model.codec_state import CodecState
from makima_tts.model.frames import Frames, FrameState, PrefillChunk
from makima_tts.model.speech_model import SpeechModel


@dataclass(frozen=True, slots=True)
class SlotBuffers:
    """What every slot holds, and a spare one more: ``codes`` int64 [S + 1, F, Q] are not sound yet.

    The spare slot fills up batches; what becomes of it matters to nobody. It stays at its first position, so
    that it has next to nothing to look back at.
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
            torch.zeros(slots + 1, RAMP_FRAMES[-1], codebooks, dtype=torch.int64, device=model.device),
        )

    @property
    def spare(self) -> int:
        return len(self.codes) - 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """Sound of some of the slots, from number ``start`` on, and of ``frames`` from ``first`` on.

    ``sound``: of ``packed_sound``, [B, …].
    """

    start: int
    first: int
    frames: int
    sound: Tensor


class Launches(Protocol):
    """``most_rows``: of a part of a prompt. ``runs_ahead``: what was launched goes on while the host does
    something else."""

    @property
    def most_rows(self) -> int: ...

    @property
    def runs_ahead(self) -> bool: ...

    def read(self, parts: Sequence[PrefillChunk]) -> None:
        """Prefill, of one slot in order."""

    def make(self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]) -> Tensor:
        """int32 [B, Q + 2] of ``packed_frames``; codes are kept at place ``at`` of each slot's chunk."""

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[Decoded]:
        """The first ``frames`` that are kept of each. What comes next may be written to the same place."""


def packed_frames(frames: Frames) -> Tensor:
    """What the host is told of frames: their codes, whether they end, whether they are broken."""
    told = torch.stack((frames.ends, frames.broken), dim=1)
    return torch.cat((frames.codes, told), dim=1).int()


def packed_sound(pcm: Tensor, loud: Tensor, finite: Tensor) -> Tensor:
    """[B, F * samples], and bool [B, F] twice, of which the same numbers are made: [B, F * (samples + 2)]."""
    return torch.cat((pcm, loud.to(pcm.dtype), finite.to(pcm.dtype)), dim=1)


class Eager:
    """On a CPU, and where nothing can be captured: exactly as many as there are, launched one by one."""

    runs_ahead = False

    def __init__(self, model: SpeechModel, buffers: SlotBuffers, most_rows: int) -> None:
        self._model = model
        self._buffers = buffers
        self.most_rows = most_rows

    def read(self, parts: Sequence[PrefillChunk]) -> None:
        self._model.frames.read(self._buffers.frames, parts)

    def make(self, slots: Sequence[int], stepped: Sequence[int], limit: int, at: Sequence[int]) -> Tensor:
        maker, state, index = self._model.frames, self._buffers.frames, self._slots(slots)
        if stepped:
            maker.step(state, self._slots(stepped), limit)
        frames = maker.make(state, index)
        self._buffers.codes[index, self._slots(at)] = frames.codes
        return packed_frames(frames)

    def decode(self, slots: Sequence[int], frames: int) -> Iterator[Decoded]:
        """float32, from -1 to 1."""
        index, buffers = self._slots(slots), self._buffers
        pcm = self._model.codec.decode(buffers.codes[index, :frames], buffers.codec, index).float()
        yield Decoded(0, 0, frames, packed_sound(pcm, *self._model.loud_and_finite(pcm, frames)))

    def _slots(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._model.device)
