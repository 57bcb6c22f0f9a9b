"""The choices of one frame on a GPU: a launch for every codebook, and one for all random numbers.

In: logits, codebook by codebook; what streams remember. Out: codes, and whether all logits were numbers.
Does not know: where logits come from, what is made of codes.

S slots · B of them · V codec vocabulary · Q codebooks.
"""

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TalkerConfig
from makima_tts.model.choices import FrameChoices
from makima_tts.model.frame_state import FrameState
from makima_tts.model.sampling import suppressed_ids
from makima_tts.model.triton.choosing import Chosen, FirstCodes, choose, choose_first
from makima_tts.model.triton.random_numbers import uniform


class GpuChoosing:
    """A Choosing."""

    def __init__(self, config: TalkerConfig, device: torch.device) -> None:
        self.eos_id = config.codec_eos_token_id
        self.codebooks = config.num_code_groups
        self.suppressed = suppressed_ids(config, device)

    def __call__(self, state: FrameState, slots: Tensor) -> FrameChoices:
        return _GpuChoices(self, state, slots)


class _GpuChoices:
    def __init__(self, rules: GpuChoosing, state: FrameState, slots: Tensor) -> None:
        self._rules = rules
        self._state = state
        self._slots = slots
        self._random = uniform(state.seed, state.frame, slots, rules.codebooks)  # [B, Q]
        self._checked: list[Chosen] = []

    def first(self, logits: Tensor) -> Tensor:
        state, rules = self._state, self._rules
        of_first = FirstCodes(state.chosen, state.penalty, state.piece_frame, rules.suppressed, rules.eos_id)
        random = self._random[:, 0]
        chosen = choose_first(logits.float(), state.talker_rules, random, self._slots, of_first)
        self._checked = [chosen]
        return chosen.codes

    def later(self, logits: Tensor, codebook: int) -> Tensor:
        random = self._random[:, codebook]
        chosen = choose(logits.float(), self._state.predictor_rules, random, self._slots)
        self._checked[1:] = [chosen]  # what goes wrong in one codebook shows in the last
        return chosen.codes

    @property
    def broken(self) -> Tensor:
        return ~torch.stack([chosen.finite for chosen in self._checked]).all(dim=0)
