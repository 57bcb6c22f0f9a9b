"""The choices of one frame: a code for every codebook, of every stream that takes part.

In: logits, codebook by codebook; what streams remember. Out: codes, and whether all logits were numbers.
Does not know: where logits come from, what is made of codes.

S slots · B of them · V codec vocabulary · Q codebooks.
"""

from typing import Protocol

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TalkerConfig
from makima_tts.model.frame_state import FrameState
from makima_tts.model.randomness import uniform
from makima_tts.model.sampling import choose, forbid, penalize, suppressed_ids


class FrameChoices(Protocol):
    """Of one frame. ``first`` is asked once, then ``later`` for codebook 1, 2, … in turn."""

    def first(self, logits: Tensor, /) -> Tensor:
        """Codebook 0: float32 [B, V] → int64 [B]."""

    def later(self, logits: Tensor, codebook: int, /) -> Tensor:
        """[B, V] → int64 [B]."""

    @property
    def broken(self) -> Tensor:
        """bool [B]: whose logits were not all numbers."""


class Choosing(Protocol):
    """Begins a frame's choices, for slots int64 [B]."""

    def __call__(self, state: FrameState, slots: Tensor, /) -> FrameChoices: ...


class TorchChoosing:
    """By the operations of torch, on any device."""

    def __init__(self, config: TalkerConfig, device: torch.device) -> None:
        self.eos_id = config.codec_eos_token_id
        self.suppressed = suppressed_ids(config, device)
        self.codebooks = torch.arange(config.num_code_groups, device=device)

    def __call__(self, state: FrameState, slots: Tensor) -> FrameChoices:
        return _TorchChoices(self, state, slots)


class _TorchChoices:
    def __init__(self, rules: TorchChoosing, state: FrameState, slots: Tensor) -> None:
        self._rules = rules
        self._state = state
        self._slots = slots
        # Of all codebooks at once: it is many small operations.
        seeds, frames = state.seed[slots, None], state.frame[slots, None]
        self._random = uniform(seeds, frames, rules.codebooks)  # [B, Q]
        self._later_rules = state.predictor_rules.of(slots)
        self._checked: list[Tensor] = []

    def first(self, logits: Tensor) -> Tensor:
        state, slots, rules = self._state, self._slots, self._rules
        self._checked = [logits]
        logits = penalize(logits, state.chosen[slots], state.penalty[slots])
        logits = forbid(logits, rules.suppressed, state.piece_frame[slots], rules.eos_id)
        return choose(logits, state.talker_rules.of(slots), self._random[:, 0])

    def later(self, logits: Tensor, codebook: int) -> Tensor:
        self._checked[1:] = [logits]  # what goes wrong in one codebook shows in the last
        return choose(logits.float(), self._later_rules, self._random[:, codebook])

    @property
    def broken(self) -> Tensor:
        return ~torch.cat(self._checked, dim=1).isfinite().all(dim=1)
