"""The sampler in Triton: the codes that torch samples, for rules of every kind, and the same random numbers.

S slots · B rows · V codes.
"""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from makima_tts.model import sampling
from makima_tts.model.sampling import (
    FirstCodebook,
    RuleRows,
    SamplerState,
    Sampling,
    SamplingRule,
    TorchFrameSampler,
    forbid,
    penalize,
    probabilities,
)
from makima_tts.model.triton.sampler import TritonFrameSampler, sample, uniform
from tests.checkpoints.models import ENDING, small_model
from tests.kernels.places import DEVICE, numbers

ROWS = 20
VOCABULARY = 300
# A number so near to where one code ends and the next begins may mean either.
NEAR = 1e-5


def rules_of(*wanted: SamplingRule) -> RuleRows:
    rows = RuleRows.allocate(len(wanted), DEVICE)
    for row, rule in enumerate(wanted):
        rows.put(row, rule)
    return rows


def any_rules(seed: int, top_ps: tuple[float, ...]) -> RuleRows:
    chance = random.Random(seed)
    return rules_of(
        *(
            SamplingRule(
                chance.random() < 0.1,
                chance.uniform(0.3, 2.0),
                chance.choice((0, 1, 5, 50, 299, 300, 1000)),
                chance.choice(top_ps),
            )
            for _ in range(ROWS)
        )
    )


def drawn_numbers(seed: int, rows: int = ROWS) -> Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def same_but_at_edges(codes: Tensor, logits: Tensor, rules: RuleRows, number: Tensor) -> bool:
    """Equal to torch's, or the number lies where the two codes' shares meet."""
    edges = probabilities(logits.double(), rules).cumsum(1)  # [B, V]
    expected = sampling.sample(logits, rules, number)
    lesser = torch.minimum(codes, expected)
    near = (edges.gather(1, lesser[:, None])[:, 0] - number).abs() < NEAR
    return bool(((codes == expected) | (near & ~rules.greedy)).all())


def test_codes_are_those_that_torch_samples() -> None:
    """Every row by its own rules, of the slot that it is in."""
    rules, logits, number = (
        any_rules(1, (1.0, 0.9, 0.5, 0.01)),
        3 * numbers(2, ROWS, VOCABULARY),
        drawn_numbers(3),
    )
    slots = torch.randperm(ROWS, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    made, finite = sample(logits, rules, number, slots)
    assert same_but_at_edges(made, logits, rules.of(slots), number)
    assert finite.all()


def test_all_that_tie_with_the_last_of_top_k_stay() -> None:
    rules, logits, number = any_rules(5, (1.0,)), numbers(6, ROWS, VOCABULARY).round(), drawn_numbers(7)
    logits[::3] *= -0.0  # which is as large as 0.0
    slots = torch.arange(ROWS, device=DEVICE)
    assert same_but_at_edges(sample(logits, rules, number, slots)[0], logits, rules, number)


def test_all_that_tie_where_top_p_ends_stay() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]], device=DEVICE).repeat(12, 1)
    number, slots = torch.arange(12, device=DEVICE) / 12, torch.zeros(12, dtype=torch.int64, device=DEVICE)
    rules = rules_of(SamplingRule(False, 1.0, 0, 0.6))
    assert sample(logits, rules, number, slots)[0].tolist() == 6 * [0] + 2 * [1] + 2 * [2] + 2 * [3]
    least = rules_of(SamplingRule(False, 1.0, 0, 0.0))
    assert sample(logits, least, number, slots)[0].tolist() == 12 * [0]


def test_codebook_0_is_penalized_and_forbidden_as_in_torch() -> None:
    rules, logits, number = any_rules(8, (1.0, 0.8)), 3 * numbers(9, ROWS, VOCABULARY), drawn_numbers(10)
    slots = torch.randperm(ROWS, generator=torch.Generator().manual_seed(11)).to(DEVICE)
    eos = 290
    codes = torch.arange(VOCABULARY, device=DEVICE)
    first = FirstCodebook(eos, (codes >= 280) & (codes != eos), codes[:16])
    state = replace(
        SamplerState.allocate(ROWS, VOCABULARY, DEVICE),
        sampled=numbers(12, ROWS, VOCABULARY) > 1,
        penalty=1 + drawn_numbers(13),
        prompt_frames=torch.arange(ROWS, device=DEVICE) % 4,
        talker_rules=rules,
    )
    logits[:, eos] = 9.0
    made, finite = sample(logits, rules, number, slots, state, first)
    allowed = penalize(logits, state.sampled[slots], state.penalty[slots])
    allowed = forbid(allowed, first.suppressed, state.prompt_frames[slots], eos)
    assert same_but_at_edges(made, allowed, rules.of(slots), number)
    assert finite.all()
    assert not first.suppressed[made].any()
    assert set(state.prompt_frames[slots][made == eos].tolist()) == {2, 3}


def test_logits_that_are_not_finite_are_reported_and_a_code_is_sampled_all_the_same() -> None:
    logits = numbers(14, 6, 40)
    logits[1, 39], logits[2, 0], logits[3, 7], logits[4] = (
        float(word) for word in ("nan", "inf", "-inf", "nan")
    )
    greedy, drawn = SamplingRule(True, 1.0, 0, 1.0), SamplingRule(False, 0.9, 50, 0.9)
    rules, slots = rules_of(greedy, drawn), torch.zeros(6, dtype=torch.int64, device=DEVICE)
    for by_slot in (slots, slots + 1):
        made, finite = sample(logits, rules, drawn_numbers(15, 6), by_slot)
        assert finite.tolist() == [True, False, False, False, False, True]
        assert ((made >= 0) & (made < 40)).all()


def test_no_code_of_probability_0_is_sampled_even_by_the_largest_number() -> None:
    logits = 4 * numbers(16, 12, 50)
    rules, slots = (
        rules_of(SamplingRule(False, 0.9, 7, 1.0)),
        torch.zeros(12, dtype=torch.int64, device=DEVICE),
    )
    least = logits.topk(7, dim=1).values[:, -1:]
    for number in (0.0, 1 - 2**-23):
        codes = sample(logits, rules, torch.full((12,), number, device=DEVICE), slots)[0]
        assert (logits.gather(1, codes[:, None]) >= least).all()


def test_random_numbers_are_those_of_torch_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(-(2**63), 2**63 - 1, (9,), generator=generator).to(DEVICE)
    frames = torch.randint(0, 2**31, (9,), generator=generator).to(DEVICE)
    slots = torch.tensor([3, 8, 0], device=DEVICE)
    for codebooks in (1, 3, 16):
        expected = sampling.uniform(
            seeds[slots, None], frames[slots, None], torch.arange(codebooks, device=DEVICE)
        )
        assert torch.equal(uniform(seeds, frames, slots, codebooks), expected)


def state_amid_utterances(seed: int, slots: int = 6) -> SamplerState:
    made = torch.Generator().manual_seed(seed)
    model = small_model(ENDING)
    state = model.frames.new_state(slots, 8, 8)
    for slot in range(slots):
        by = Sampling.of(model.config.generation, greedy=slot == 2)
        model.frames.begin_utterance(state, slot, by, 1000 * seed + slot)
    of = state.sampling
    of.frame[:] = torch.randint(0, 400, (slots,), generator=made)
    of.prompt_frames[:] = torch.arange(slots) % 4
    of.sampled[:] = torch.rand(of.sampled.shape, generator=made) < 0.1
    return of


@pytest.mark.parametrize("seed", range(2))
def test_every_codebook_of_a_frame_is_sampled_as_torch_samples_it(seed: int) -> None:
    model, state, slots = small_model(ENDING), state_amid_utterances(seed), torch.tensor([4, 0, 2, 1])
    talker, made = model.config.talker_config, torch.Generator().manual_seed(seed)
    first = FirstCodebook.of(talker, torch.device("cpu"))
    both = (TorchFrameSampler(first, state, slots), TritonFrameSampler(first, state, slots))
    logits = 3 * torch.randn(len(slots), talker.vocab_size, generator=made)
    assert torch.equal(*(each.sample_first(logits) for each in both))
    for codebook in range(1, talker.num_code_groups):
        logits = 3 * torch.randn(len(slots), model.config.predictor.vocab_size, generator=made)
        if codebook == talker.num_code_groups - 1:
            logits[1, 3] = float("nan")
        codes = [each.sample(logits, codebook) for each in both]
        assert torch.equal(codes[0][[0, 2, 3]], codes[1][[0, 2, 3]])
    for each in both:
        assert each.broken.tolist() == [False, True, False, False]
