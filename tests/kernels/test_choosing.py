"""Codes chosen on a GPU are those that torch chooses, for rules of every kind.

S slots · B rows · V codes.
"""

import random

import torch
from torch import Tensor

from makima_tts.model.sampling import RuleRows, SamplingRule, forbid, penalize, probabilities
from makima_tts.model.sampling import choose as choose_in_torch
from makima_tts.model.triton.choosing import FirstCodes, choose, choose_first
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


def uniform(seed: int, rows: int = ROWS) -> Tensor:
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def same_but_at_edges(codes: Tensor, logits: Tensor, rules: RuleRows, number: Tensor) -> bool:
    """Equal to torch's, or the number lies where the two codes' shares meet."""
    edges = probabilities(logits.double(), rules).cumsum(1)  # [B, V]
    expected = choose_in_torch(logits, rules, number)
    lesser = torch.minimum(codes, expected)
    near = (edges.gather(1, lesser[:, None])[:, 0] - number).abs() < NEAR
    return bool(((codes == expected) | (near & ~rules.greedy)).all())


def test_codes_are_those_that_torch_chooses() -> None:
    """Every row by its own rules, of the slot that it is in."""
    rules, logits, number = any_rules(1, (1.0, 0.9, 0.5, 0.01)), 3 * numbers(2, ROWS, VOCABULARY), uniform(3)
    slots = torch.randperm(ROWS, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    made = choose(logits, rules, number, slots)
    assert same_but_at_edges(made.codes, logits, rules.of(slots), number)
    assert made.finite.all()


def test_all_that_tie_with_the_last_of_top_k_stay() -> None:
    rules, logits, number = any_rules(5, (1.0,)), numbers(6, ROWS, VOCABULARY).round(), uniform(7)
    logits[::3] *= -0.0  # which is as large as 0.0
    slots = torch.arange(ROWS, device=DEVICE)
    assert same_but_at_edges(choose(logits, rules, number, slots).codes, logits, rules, number)


def test_all_that_tie_where_top_p_ends_stay() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]], device=DEVICE).repeat(12, 1)
    number, slots = torch.arange(12, device=DEVICE) / 12, torch.zeros(12, dtype=torch.int64, device=DEVICE)
    rules = rules_of(SamplingRule(False, 1.0, 0, 0.6))
    assert choose(logits, rules, number, slots).codes.tolist() == 6 * [0] + 2 * [1] + 2 * [2] + 2 * [3]
    least = rules_of(SamplingRule(False, 1.0, 0, 0.0))
    assert choose(logits, least, number, slots).codes.tolist() == 12 * [0]


def test_codebook_0_is_penalized_and_forbidden_as_in_torch() -> None:
    rules, logits, number = any_rules(8, (1.0, 0.8)), 3 * numbers(9, ROWS, VOCABULARY), uniform(10)
    slots = torch.randperm(ROWS, generator=torch.Generator().manual_seed(11)).to(DEVICE)
    eos = 290
    codes = torch.arange(VOCABULARY, device=DEVICE)
    first = FirstCodes(
        before=numbers(12, ROWS, VOCABULARY) > 1,
        penalty=1 + uniform(13),
        frames=torch.arange(ROWS, device=DEVICE) % 4,
        suppressed=(codes >= 280) & (codes != eos),
        eos_id=eos,
    )
    logits[:, eos] = 9.0
    made = choose_first(logits, rules, number, slots, first)
    allowed = penalize(logits, first.before[slots], first.penalty[slots])
    allowed = forbid(allowed, first.suppressed, first.frames[slots], eos)
    assert same_but_at_edges(made.codes, allowed, rules.of(slots), number)
    assert made.finite.all()
    assert not first.suppressed[made.codes].any()
    assert set(first.frames[slots][made.codes == eos].tolist()) == {2, 3}


def test_what_is_no_number_is_told_of_and_a_code_is_chosen_all_the_same() -> None:
    logits = numbers(14, 6, 40)
    logits[1, 39], logits[2, 0], logits[3, 7], logits[4] = (
        float(word) for word in ("nan", "inf", "-inf", "nan")
    )
    greedy, drawn = SamplingRule(True, 1.0, 0, 1.0), SamplingRule(False, 0.9, 50, 0.9)
    rules, slots = rules_of(greedy, drawn), torch.zeros(6, dtype=torch.int64, device=DEVICE)
    for chosen_by in (slots, slots + 1):
        made = choose(logits, rules, uniform(15, 6), chosen_by)
        assert made.finite.tolist() == [True, False, False, False, False, True]
        assert ((made.codes >= 0) & (made.codes < 40)).all()


def test_nothing_without_a_chance_is_drawn_even_by_the_largest_number() -> None:
    logits = 4 * numbers(16, 12, 50)
    rules, slots = (
        rules_of(SamplingRule(False, 0.9, 7, 1.0)),
        torch.zeros(12, dtype=torch.int64, device=DEVICE),
    )
    least = logits.topk(7, dim=1).values[:, -1:]
    for number in (0.0, 1 - 2**-23):
        codes = choose(logits, rules, torch.full((12,), number, device=DEVICE), slots).codes
        assert (logits.gather(1, codes[:, None]) >= least).all()
