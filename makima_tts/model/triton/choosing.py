"""The rules of ``sampling.py`` on a GPU: from a row of logits to a code in one launch, and nothing is sorted.

In: logits, rules, uniform numbers, what was chosen before. Out: codes, and whether the logits were numbers;
nothing is read back. Does not know: where logits come from, slots' owners.

S slots · B of them · V codec vocabulary.

The k-th largest logit is found by bisection: read as whole numbers in the right order, floats have 32 bits,
and each is settled by counting how many logits are smaller. Top-p is the same search, over chances instead
of counts. Where several logits tie with the last that top-p keeps, all of them stay, as top-k's ties do
everywhere; ``sampling.py`` keeps some of them there.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.sampling import MIN_FRAMES, RuleRows

_WARPS = 8


@dataclass(frozen=True, slots=True)
class Chosen:
    """``codes``: int64 [B]. ``finite``: bool [B], whether all logits of the row were numbers."""

    codes: Tensor
    finite: Tensor

    @classmethod
    def of(cls, rows: int, device: torch.device) -> "Chosen":
        """To be written."""
        return cls(
            torch.empty(rows, dtype=torch.int64, device=device),
            torch.empty(rows, dtype=torch.bool, device=device),
        )


@dataclass(frozen=True, slots=True)
class FirstCodes:
    """What counts for codebook 0 only. ``before``: bool [S, V], what was chosen; ``penalty``: [S].

    ``frames``: int64 [S], made so far. ``suppressed``: bool [V].
    """

    before: Tensor
    penalty: Tensor
    frames: Tensor
    suppressed: Tensor
    eos_id: int


def choose(logits: Tensor, rules: RuleRows, uniform: Tensor, slots: Tensor) -> Chosen:
    """float32 [B, V], rules of all slots, [B], int64 [B] → codes."""
    return _chosen(logits, rules, uniform, slots, None)


def choose_first(
    logits: Tensor, rules: RuleRows, uniform: Tensor, slots: Tensor, first: FirstCodes
) -> Chosen:
    """``choose``, after ``penalize`` and ``forbid``."""
    return _chosen(logits, rules, uniform, slots, first)


def _chosen(
    logits: Tensor, rules: RuleRows, uniform: Tensor, slots: Tensor, first: FirstCodes | None
) -> Chosen:
    made = Chosen.of(len(logits), logits.device)
    _choose[len(logits),](
        logits,
        logits.stride(0),
        uniform,
        uniform.stride(0),
        slots.contiguous(),
        rules.greedy,
        rules.temperature,
        rules.top_k,
        rules.beyond_top_p,
        first and first.before,
        first and first.penalty,
        first and first.frames,
        first and first.suppressed,
        first and first.eos_id,
        made.codes,
        made.finite,
        logits.shape[1],
        min_frames=MIN_FRAMES,
        block=triton.next_power_of_2(logits.shape[1]),
        num_warps=_WARPS,
    )
    return made


@triton.jit(do_not_specialize=["uniform_stride", "eos_id"])
def _choose(
    logits: tl.tensor,
    logits_stride: tl.tensor,
    uniform: tl.tensor,
    uniform_stride: tl.tensor,
    slots: tl.tensor,
    greedy: tl.tensor,
    temperature: tl.tensor,
    top_k: tl.tensor,
    beyond_top_p: tl.tensor,
    before: tl.tensor,
    penalty: tl.tensor,
    frames: tl.tensor,
    suppressed: tl.tensor,
    eos_id: tl.tensor,
    codes: tl.tensor,
    finite: tl.tensor,
    vocabulary: tl.tensor,
    min_frames: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One row; programs are [B]."""
    row = tl.program_id(0).to(tl.int64)
    slot, code = tl.load(slots + row), tl.arange(0, block)
    inside = code < vocabulary
    logit = tl.load(logits + row * logits_stride + code, mask=inside, other=0.0)
    exponent = logit.to(tl.uint32, bitcast=True) & 0x7F800000
    is_number = exponent != 0x7F800000  # neither infinite nor NaN
    tl.store(finite + row, tl.min(is_number.to(tl.int32), 0) == 1)
    logit = tl.where(inside & is_number, logit, float("-inf"))
    if before is not None:
        logit = _allowed(
            logit, code, inside, slot, before, penalty, frames, suppressed, eos_id, vocabulary, min_frames
        )
    if tl.load(greedy + slot) != 0:
        chosen = tl.argmax(logit, 0)
    else:
        scaled = tl.div_rn(logit, tl.zeros_like(logit) + tl.load(temperature + slot))
        number = tl.load(uniform + row * uniform_stride)
        beyond = tl.load(beyond_top_p + slot)
        chosen = _drawn(scaled, code, vocabulary, tl.load(top_k + slot), beyond, number, block)
    # Of a row without any number it may be one beyond.
    tl.store(codes + row, tl.minimum(chosen, vocabulary - 1).to(tl.int64))


@triton.jit
def _allowed(
    logit: tl.tensor,
    code: tl.tensor,
    inside: tl.tensor,
    slot: tl.tensor,
    before: tl.tensor,
    penalty: tl.tensor,
    frames: tl.tensor,
    suppressed: tl.tensor,
    eos_id: tl.tensor,
    vocabulary: tl.tensor,
    min_frames: tl.constexpr,
) -> tl.tensor:
    """``penalize`` and ``forbid``."""
    factor = tl.zeros_like(logit) + tl.load(penalty + slot)
    again = tl.load(before + slot * vocabulary + code, mask=inside, other=0) != 0
    likelier = tl.where(logit < 0, logit * factor, tl.div_rn(logit, factor))
    logit = tl.where(again, likelier, logit)
    forbidden = tl.load(suppressed + code, mask=inside, other=1) != 0
    too_early = tl.load(frames + slot) < min_frames
    return tl.where(forbidden | (too_early & (code == eos_id)), float("-inf"), logit)


@triton.jit
def _drawn(
    scaled: tl.tensor,
    code: tl.tensor,
    vocabulary: tl.tensor,
    top_k: tl.tensor,
    beyond: tl.tensor,
    number: tl.tensor,
    block: tl.constexpr,
) -> tl.tensor:
    """Top-k, top-p, and the first code, in the order of ids, at which the chances reach beyond ``number``."""
    order = _order(scaled)
    highest = tl.maximum(tl.max(scaled, 0), -3e38)  # where nothing is allowed, nothing has a chance
    inside = code < vocabulary
    kept = inside
    if top_k > 0:
        # 0.0 and -0.0 are as large as each other.
        least = _most_above(order, inside.to(tl.float32), (vocabulary - top_k).to(tl.float32))
        kept = inside & ((order >= least) | (scaled == _number(least)))
    chance = tl.where(kept, tl.exp(scaled - highest), 0.0)
    if beyond > 0:
        # What a code and all that are less likely have together must be more than what lies beyond top-p.
        least = _most_above(order, chance, beyond * tl.sum(chance, 0))
        kept = kept & ((order >= least) | (scaled == highest))
        chance = tl.where(kept, chance, 0.0)
    reached = tl.cumsum(chance, 0)
    possible = chance > 0
    target = number * tl.max(tl.where(possible, reached, 0.0), 0)
    return tl.min(tl.where(possible & (reached > target), code, block), 0)


@triton.jit
def _order(number: tl.tensor) -> tl.tensor:
    """Floats as uint32 in the same order: negative ones turned around, positive ones above them."""
    bits = number.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits ^ 0x80000000)


@triton.jit
def _number(order: tl.tensor) -> tl.tensor:
    """The float of an order."""
    bits = tl.where(order >> 31 == 1, order ^ 0x80000000, order ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _most_above(order: tl.tensor, weight: tl.tensor, allowed: tl.tensor) -> tl.tensor:
    """The largest order such that all that are smaller weigh ``allowed`` at most; else 0. Bit by bit."""
    found = tl.full((), 0, tl.uint32)
    bit = tl.full((), 0x80000000, tl.uint32)
    for _ in range(32):
        tried = found | bit
        found = tl.where(tl.sum(tl.where(order < tried, weight, 0.0), 0) <= allowed, tried, found)
        bit = bit >> 1
    return found
