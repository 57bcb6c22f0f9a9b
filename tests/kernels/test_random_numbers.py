"""Random numbers on a GPU are those of torch, to the bit."""

import torch

from makima_tts.model import randomness
from makima_tts.model.triton.random_numbers import uniform
from tests.kernels.places import DEVICE


def test_numbers_are_those_of_torch_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(-(2**63), 2**63 - 1, (9,), generator=generator).to(DEVICE)
    frames = torch.randint(0, 2**31, (9,), generator=generator).to(DEVICE)
    slots = torch.tensor([3, 8, 0], device=DEVICE)
    for codebooks in (1, 3, 16):
        expected = randomness.uniform(
            seeds[slots, None], frames[slots, None], torch.arange(codebooks, device=DEVICE)
        )
        assert torch.equal(uniform(seeds, frames, slots, codebooks), expected)
