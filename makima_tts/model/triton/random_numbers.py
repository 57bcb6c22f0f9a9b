"""The numbers of ``randomness.py`` on a GPU: the same bits, of all codebooks in one launch.

In: seeds and frames of slots, which slots. Out: uniform numbers. Does not know: what is drawn with them.

S slots · B of them · Q codebooks.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def uniform(seeds: Tensor, frames: Tensor, slots: Tensor, codebooks: int) -> Tensor:
    """int64 [S], [S], [B] → float32 [B, Q] in 0 ≤ u < 1, multiples of 2⁻²³."""
    out = torch.empty(len(slots), codebooks, device=seeds.device, dtype=torch.float32)
    _uniform[len(slots),](
        seeds,
        frames,
        slots.contiguous(),
        out,
        codebooks,
        block=triton.next_power_of_2(codebooks),
        num_warps=1,
    )
    return out


@triton.jit
def _uniform(
    seeds: tl.tensor,
    frames: tl.tensor,
    slots: tl.tensor,
    out: tl.tensor,
    codebooks: tl.tensor,
    block: tl.constexpr,
) -> None:
    """One stream's; programs are [B]. The counter is (frame, codebook, 0, 0), the key the seed."""
    row = tl.program_id(0)
    slot, codebook = tl.load(slots + row), tl.arange(0, block)
    nothing = tl.zeros((block,), tl.uint32)
    frame = nothing + tl.load(frames + slot).to(tl.uint32)
    word, _second, _third, _fourth = tl.philox(
        tl.load(seeds + slot), frame, codebook.to(tl.uint32), nothing, nothing
    )
    number = (word >> 9).to(tl.float32) * (1.0 / (1 << 23))
    tl.store(out + row * codebooks + codebook, number, mask=codebook < codebooks)
