"""The counter-based generator: known answers, and numbers that depend on nothing but what they are for."""

import pytest
import torch

from makima_tts.model.sampling import philox, uniform

# The known-answer vectors for philox4x32-10 that come with Random123: counter, key, answer.
KNOWN = (
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def words(*numbers: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([number]) for number in numbers)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_generator_gives_the_published_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    first, second, third, fourth = words(*counter)
    low, high = words(*key)
    assert [word.item() for word in philox((first, second, third, fourth), (low, high))] == list(answer)


def test_numbers_are_the_same_alone_and_in_a_batch() -> None:
    seeds, frames = torch.tensor([5, -7, 5, 2**62]), torch.tensor([0, 3, 1, 2**20])
    together = uniform(seeds, frames, 4)
    for row in range(4):
        alone = uniform(seeds[row : row + 1], frames[row : row + 1], 4)
        assert torch.equal(alone, together[row : row + 1])


def test_seed_frame_and_codebook_each_make_another_number() -> None:
    def number(seed: int, frame: int, codebook: int) -> float:
        return uniform(torch.tensor([seed]), torch.tensor([frame]), codebook).item()

    numbers = [
        number(0, 0, 0),
        number(1, 0, 0),
        number(2**32, 0, 0),
        number(-1, 0, 0),
        number(0, 1, 0),
        number(0, 0, 1),
    ]
    assert len(set(numbers)) == len(numbers)


def test_numbers_lie_evenly_between_zero_and_one() -> None:
    frames = torch.arange(40_000)
    numbers = uniform(torch.full_like(frames, 9), frames, 0)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 45  # χ² of 19 degrees: one in a thousand is above 43.8
