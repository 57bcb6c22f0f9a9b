"""Carries steps out on the device, and owns the buffers of all slots.

In: slots, prompts, which rows take part. Out: codes, ends and sound, as numpy arrays. Does not know:
utterances, texts, listeners, when a step is due.

S slots · B the first so many of them · F frames of a chunk · Q codebooks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from makima_tts.engine.ramp import RAMP_FRAMES
from makima_tts.model.frames import PromptPart, parts_of
from makima_tts.model.layers import KeyValueCache
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel

# Attention looks at so many positions at a time: whoever is further than others decides for all.
_LIMIT_MULTIPLE = 64
# Whoever speaks waits for no more than a part of a prompt: a tenth of a second of a CPU's time. Accelerators
# read more in the time that a launch takes. Constants, since what is read together decides the last bits.
_CPU_PART_ROWS = 32
_PART_ROWS = 128


@dataclass(frozen=True, slots=True)
class Made:
    """One frame of each of some slots. ``codes``: int64 [n, Q]; ``ends`` and ``broken``: bool [n]."""

    codes: npt.NDArray[np.int64] = field(repr=False)
    ends: npt.NDArray[np.bool_]
    broken: npt.NDArray[np.bool_]


class Runner:
    """Engine thread only. ``positions`` and ``text_rows``: what each slot holds at most."""

    def __init__(self, model: SpeechModel, *, slots: int, positions: int, text_rows: int) -> None:
        self.positions = positions
        self.text_rows = text_rows
        self._model = model
        self._state = model.frames.new_state(slots, positions, text_rows)
        self._codec = model.codec.new_state(slots)
        codebooks = model.config.talker_config.num_code_groups
        self._codes = torch.zeros(
            slots, RAMP_FRAMES[-1], codebooks, dtype=torch.int64, device=model.device
        )  # [S, F, Q]

    def begin(self, slot: int, sampling: Sampling, seed: int, codec: Mapping[str, Tensor]) -> None:
        """A new utterance. ``codec``: the state its sound goes on from; empty for the beginning of sound."""
        self._model.frames.begin_utterance(self._state, slot, sampling, seed)
        if codec:
            self._codec.put_row(slot, codec)
        else:
            self._codec.reset(self._slots([slot]))

    def parts(self, slot: int, prompt: Prompt, *, constant_known: bool = False) -> list[PromptPart]:
        """What is to be read of a prompt, in order; ``constant_known``: its constant rows will be put."""
        most_rows = _CPU_PART_ROWS if self._model.device.type == "cpu" else _PART_ROWS
        return parts_of(prompt, slot, most_rows, constant_known=constant_known)

    def constant(self, slot: int, rows: int) -> KeyValueCache:
        """What came of the ``rows`` that depend on the voice; put elsewhere, it spares reading them."""
        return self._model.frames.constant(self._state, slot, rows)

    def put_constant(self, slot: int, constant: KeyValueCache) -> None:
        self._model.frames.put_constant(self._state, slot, constant)

    def read(self, parts: Sequence[PromptPart]) -> None:
        """Read parts of prompts, of one slot in order. Returns when they were read: that time is measured."""
        self._model.frames.read(self._state, parts)
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)

    def make(self, slots: Sequence[int], stepped: Sequence[int], furthest: int, at: Sequence[int]) -> Made:
        """A frame for each slot, kept at place ``at`` of its chunk.

        ``stepped``: those whose frame is no prompt's first. ``furthest``: the highest position of all.
        """
        limit = min(self.positions, _up(furthest + 1, _LIMIT_MULTIPLE))
        index = self._slots(slots)
        frames = self._model.frames.make(self._state, index, self._slots(stepped), limit)
        self._codes[index, self._slots(at)] = frames.codes
        return Made(
            frames.codes.cpu().numpy(),
            frames.ends.cpu().numpy(),
            frames.broken.cpu().numpy(),
        )

    def decode(self, slots: Sequence[int], frames: int) -> npt.NDArray[np.float32]:
        """The first ``frames`` that are kept of each of these slots: float32 [n, frames * samples]."""
        index = self._slots(slots)
        pcm = self._model.codec.decode(self._codes[index, :frames], self._codec, index)
        sound: npt.NDArray[np.float32] = pcm.float().cpu().numpy()
        return sound

    def scrub(self, slot: int) -> None:
        """After NaN: masked keys count nothing, but nothing times NaN is NaN."""
        cache = self._state.cache.rows(slot, 1)
        for tensor in (cache.keys, cache.values, self._state.hidden[slot], self._state.row[slot]):
            tensor.zero_()

    def _slots(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._model.device)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
