"""The sampler of ``sampling.py`` in Triton: a launch for each codebook, one for all random numbers, no sort.

In: logits, rules, what was sampled before, seeds. Out: codes, and whether the logits were finite; nothing is
read back. Does not know: where logits come from, whose slot it is.

S slots · B of them · V codec vocabulary · Q codebooks.

The k-th largest logit is found by bisection: read as integers in the right order, floats have 32 bits, and
each bit is settled by counting how many logits are smaller. Top-p is the same search, over probabilities in
place of counts. Where several logits tie with the last one that top-p keeps, all of them stay, as top-k's
ties do everywhere; torch's sampler keeps some of them there.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from makima_tts.model.sampling import MIN_FRAMES, FirstCodebook, RuleRows, SamplerState

_WARPS = 8


class TritonFrameSampler:
    """A FrameSampler on a GPU."""

    def __init__(self, first: FirstCodebook, state: SamplerState, slots: Tensor) -> None:
        self._first = first
        self._state = state
        self._slots = slots.contiguous()
        self._uniform = uniform(state.seed, state.frame, self._slots, len(first.codebooks))  # [B, Q]
        self._finite: list[Tensor] = []

    def sample_first(self, logits: Tensor) -> Tensor:
        state, numbers = self._state, self._uniform[:, 0]
        codes, finite = sample(logits.float(), state.talker_rules, numbers, self._slots, state, self._first)
        self._finite = [finite]
        return codes

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        rules, numbers = self._state.predictor_rules, self._uniform[:, codebook]
        codes, finite = sample(logits.float(), rules, numbers, self._slots)
        self._finite[1:] = [finite]
        return codes

    @property
    def broken(self) -> Tensor:
        return ~torch.stack(self._finite).all(dim=0)


def sample(
    logits: Tensor,
    rules: RuleRows,
    uniform: Tensor,
    slots: Tensor,
    state: SamplerState | None = None,
    first: FirstCodebook | None = None,
) -> tuple[Tensor, Tensor]:
    """float32 [B, V], rules of all slots, [B], int64 [B] → codes int64 [B]; bool [B], all logits finite.

    With the other two it is codebook 0, whose logits are changed by ``penalize`` and ``forbid`` before.
    """
    codes = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    finite = torch.empty(len(logits), dtype=torch.bool, device=logits.device)
    _sample_kernel[len(logits),](
        logits, logits.stride(0), uniform, uniform.stride(0),
        slots.contiguous(), rules.greedy, rules.temperature, rules.top_k, rules.beyond_top_p,
        state and state.sampled, state and state.penalty, state and state.prompt_frames,
        first and first.suppressed, first and first.eos_id, codes, finite, logits.shape[1],
        min_frames=MIN_FRAMES, BLOCK=triton.next_power_of_2(logits.shape[1]), num_warps=_WARPS,
    )  # fmt: skip
    return codes, finite


def uniform(seeds: Tensor, frames: Tensor, slots: Tensor, codebooks: int) -> Tensor:
    """int64 [S], [S], [B] → float32 [B, Q] in 0 ≤ u < 1: the same bits as ``sampling.uniform``."""
    out = torch.empty(len(slots), codebooks, device=seeds.device, dtype=torch.float32)
    _uniform_kernel[len(slots),](
        seeds, frames, slots.contiguous(), out, codebooks,
        BLOCK=triton.next_power_of_2(codebooks), num_warps=1,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["uniform_stride_b", "eos_id"])
def _sample_kernel(
    logits_ptr, logits_stride_b, uniform_ptr, uniform_stride_b,
    slots_ptr, greedy_ptr, temperature_ptr, top_k_ptr, beyond_top_p_ptr, sampled_ptr, penalty_ptr, frames_ptr,
    suppressed_ptr, eos_id, codes_ptr, finite_ptr, vocab_size,
    min_frames: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row; programs are [B]."""
    row = tl.program_id(0).to(tl.int64)
    slot, code = tl.load(slots_ptr + row), tl.arange(0, BLOCK)
    inside = code < vocab_size
    logit = tl.load(logits_ptr + row * logits_stride_b + code, mask=inside, other=0.0)
    exponent = logit.to(tl.uint32, bitcast=True) & 0x7F800000
    is_finite = exponent != 0x7F800000  # neither infinite nor NaN
    tl.store(finite_ptr + row, tl.min(is_finite.to(tl.int32), 0) == 1)
    logit = tl.where(inside & is_finite, logit, float("-inf"))
    if sampled_ptr is not None:
        logit = _apply_first_rules(
            logit, code, inside, slot, sampled_ptr, penalty_ptr, frames_ptr, suppressed_ptr,
            eos_id, vocab_size, min_frames,
        )  # fmt: skip
    if tl.load(greedy_ptr + slot) != 0:
        sampled = tl.argmax(logit, 0)
    else:
        scaled = tl.div_rn(logit, tl.zeros_like(logit) + tl.load(temperature_ptr + slot))
        uniform = tl.load(uniform_ptr + row * uniform_stride_b)
        beyond = tl.load(beyond_top_p_ptr + slot)
        sampled = _draw(scaled, code, vocab_size, tl.load(top_k_ptr + slot), beyond, uniform, BLOCK)
    # In a row without any finite logit it may lie one beyond.
    tl.store(codes_ptr + row, tl.minimum(sampled, vocab_size - 1).to(tl.int64))


@triton.jit
def _apply_first_rules(
    logit, code, inside, slot,
    sampled_ptr, penalty_ptr, frames_ptr, suppressed_ptr, eos_id, vocab_size,
    min_frames: tl.constexpr,
):  # fmt: skip
    """``penalize`` and ``forbid``."""
    factor = tl.zeros_like(logit) + tl.load(penalty_ptr + slot)
    again = tl.load(sampled_ptr + slot * vocab_size + code, mask=inside, other=0) != 0
    penalized = tl.where(logit < 0, logit * factor, tl.div_rn(logit, factor))
    logit = tl.where(again, penalized, logit)
    forbidden = tl.load(suppressed_ptr + code, mask=inside, other=1) != 0
    too_early = tl.load(frames_ptr + slot) < min_frames
    return tl.where(forbidden | (too_early & (code == eos_id)), float("-inf"), logit)


@triton.jit
def _draw(scaled, code, vocab_size, top_k, beyond, uniform, BLOCK: tl.constexpr):
    """Top-k, top-p, then the first id at which the cumulated probability exceeds ``uniform``."""
    order = _ordered_bits(scaled)
    highest = tl.maximum(tl.max(scaled, 0), -3e38)  # finite also where nothing is allowed
    inside = code < vocab_size
    kept = inside
    if top_k > 0:
        # 0.0 and -0.0 are equal.
        least = _largest_order_below(order, inside.to(tl.float32), (vocab_size - top_k).to(tl.float32))
        kept = inside & ((order >= least) | (scaled == _float_of(least)))
    probability = tl.where(kept, tl.exp(scaled - highest), 0.0)
    if beyond > 0:
        # A code and all less probable ones must together have more than 1 - top_p.
        least = _largest_order_below(order, probability, beyond * tl.sum(probability, 0))
        kept = kept & ((order >= least) | (scaled == highest))
        probability = tl.where(kept, probability, 0.0)
    reached = tl.cumsum(probability, 0)
    possible = probability > 0
    target = uniform * tl.max(tl.where(possible, reached, 0.0), 0)
    return tl.min(tl.where(possible & (reached > target), code, BLOCK), 0)


@triton.jit
def _ordered_bits(value):
    """Floats as uint32 in the same order: negative ones reversed, positive ones above them."""
    bits = value.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits ^ 0x80000000)


@triton.jit
def _float_of(order):
    """The float of an order."""
    bits = tl.where(order >> 31 == 1, order ^ 0x80000000, order ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _largest_order_below(order, weight, allowed):
    """The largest order such that all smaller ones weigh ``allowed`` at most; else 0. Bit by bit."""
    found = tl.full((), 0, tl.uint32)
    bit = tl.full((), 0x80000000, tl.uint32)
    for _ in range(32):
        tried = found | bit
        found = tl.where(tl.sum(tl.where(order < tried, weight, 0.0), 0) <= allowed, tried, found)
        bit = bit >> 1
    return found


@triton.jit
def _uniform_kernel(seeds_ptr, frames_ptr, slots_ptr, out_ptr, codebooks, BLOCK: tl.constexpr):
    """The numbers of one row; programs are [B]. The counter is (frame, codebook, 0, 0), the key the seed."""
    row = tl.program_id(0)
    slot, codebook = tl.load(slots_ptr + row), tl.arange(0, BLOCK)
    zero = tl.zeros((BLOCK,), tl.uint32)
    frame = zero + tl.load(frames_ptr + slot).to(tl.uint32)
    word, _second, _third, _fourth = tl.philox(
        tl.load(seeds_ptr + slot), frame, codebook.to(tl.uint32), zero, zero
    )
    number = (word >> 9).to(tl.float32) * (1.0 / (1 << 23))
    tl.store(out_ptr + row * codebooks + codebook, number, mask=codebook < codebooks)
