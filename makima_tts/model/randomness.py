"""Random numbers that depend on nothing but what they are for.

In: seeds, frames, codebooks. Out: uniform numbers. Does not know: what is drawn with them, batches, devices'
own generators.

Philox-4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11, 2011): a keyed bijection
of a counter, ten rounds of multiplications. The key is the seed, the counter names the frame and the
codebook, so that a number is the same alone, in any batch, in any slot and in any order.
"""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF
# Of 32 random bits so many are used: the largest number stays below 1 however it is multiplied.
_BITS = 23


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four words from four words and a key of two; each int64 of any one shape, in 0…2³²-1."""
    first, second, third, fourth = counter
    low_key, high_key = key
    for _ in range(_ROUNDS):
        high_1, low_1 = _product(first, _MULTIPLIERS[0])
        high_2, low_2 = _product(third, _MULTIPLIERS[1])
        first, second = high_2 ^ second ^ low_key, low_2
        third, fourth = high_1 ^ fourth ^ high_key, low_1
        low_key = (low_key + _KEY_STEPS[0]) & _WORD
        high_key = (high_key + _KEY_STEPS[1]) & _WORD
    return first, second, third, fourth


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low word of a product of 64 bits; int64 wraps around, which leaves its bits as they are."""
    product = word * factor
    return (product >> 32) & _WORD, product & _WORD


def uniform(seeds: Tensor, frames: Tensor, codebook: int | Tensor) -> Tensor:
    """int64 each, of shapes that broadcast → float32 in 0 ≤ u < 1, multiples of 2⁻²³."""
    nothing = torch.zeros_like(frames)
    counter = (frames & _WORD, nothing + codebook, nothing, nothing)
    word = philox(counter, (seeds & _WORD, (seeds >> 32) & _WORD))[0]
    return (word >> (32 - _BITS)).float() * 2.0**-_BITS
