"""A frame's choices on a GPU are those of torch: the same random numbers, rules and codes."""

import pytest
import torch

from makima_tts.model.choices import TorchChoosing
from makima_tts.model.frame_state import FrameState
from makima_tts.model.sampling import Sampling
from makima_tts.model.triton.choices import GpuChoosing
from tests.checkpoints.models import ENDING, small_model

SLOTS = 6


def state_of(seed: int) -> FrameState:
    """Utterances that have been under way for a while."""
    made = torch.Generator().manual_seed(seed)
    model = small_model(ENDING)
    state = model.frames.new_state(SLOTS, 8, 8)
    for slot in range(SLOTS):
        sampling = Sampling.of(model.config.generation, greedy=slot == 2)
        model.frames.begin_utterance(state, slot, sampling, 1000 * seed + slot)
    state.frame[:] = torch.randint(0, 400, (SLOTS,), generator=made)
    state.piece_frame[:] = torch.arange(SLOTS) % 4
    state.chosen[:] = torch.rand(state.chosen.shape, generator=made) < 0.1
    return state


@pytest.mark.parametrize("seed", range(2))
def test_every_codebook_of_a_frame_is_chosen_as_torch_chooses_it(seed: int) -> None:
    model, state, slots = small_model(ENDING), state_of(seed), torch.tensor([4, 0, 2, 1])
    talker, made = model.config.talker_config, torch.Generator().manual_seed(seed)
    device = torch.device("cpu")
    both = [make(talker, device)(state, slots) for make in (TorchChoosing, GpuChoosing)]
    logits = 3 * torch.randn(len(slots), talker.vocab_size, generator=made)
    assert torch.equal(*(each.first(logits) for each in both))
    for codebook in range(1, talker.num_code_groups):
        logits = 3 * torch.randn(len(slots), model.config.predictor.vocab_size, generator=made)
        if codebook == talker.num_code_groups - 1:
            logits[1, 3] = float("nan")
        codes = [each.later(logits, codebook) for each in both]
        assert torch.equal(codes[0][[0, 2, 3]], codes[1][[0, 2, 3]])
    for each in both:
        assert each.broken.tolist() == [False, True, False, False]
