"""The rules of sampling, each where it decides, and draws that follow the chances."""

import math

import pytest
import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import GenerationConfig, TalkerConfig
from makima_tts.model.sampling import (
    FirstCodebook,
    RuleRows,
    Sampling,
    SamplingRule,
    draw,
    forbid,
    penalize,
    probabilities,
    sample,
    uniform,
)


def rules(*wanted: SamplingRule) -> RuleRows:
    rows = RuleRows.allocate(len(wanted), torch.device("cpu"))
    for row, rule in enumerate(wanted):
        rows.put(row, rule)
    return rows


def sampled(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> RuleRows:
    return rules(SamplingRule(False, temperature, top_k, top_p))


def chances(logits: list[float], **wanted: float) -> list[float]:
    found: list[float] = probabilities(torch.tensor([logits]), sampled(**wanted))[0].tolist()  # type: ignore[arg-type]
    return found


def test_without_rules_chances_are_the_softmax() -> None:
    assert chances([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])


def test_temperature_sharpens() -> None:
    assert chances([0.0, math.log(3)], temperature=0.5) == pytest.approx([0.1, 0.9])


def test_top_k_keeps_the_likeliest_and_those_that_tie_with_the_last() -> None:
    assert chances([3.0, 1.0, 2.0, 0.0], top_k=2)[1::2] == [0.0, 0.0]
    assert [chance > 0 for chance in chances([2.0, 1.0, 1.0, 0.0], top_k=2)] == [True, True, True, False]
    assert all(chances([3.0, 1.0, 2.0, 0.0], top_k=9))


def test_top_p_keeps_what_reaches_it_and_always_the_likeliest() -> None:
    logits = [math.log(0.5), math.log(0.3), math.log(0.15), math.log(0.05)]
    assert [chance > 0 for chance in chances(logits, top_p=0.7)] == [True, True, False, False]
    assert [chance > 0 for chance in chances(logits, top_p=0.01)] == [True, False, False, False]


def test_top_p_counts_what_top_k_left() -> None:
    logits = [math.log(0.4), math.log(0.35), math.log(0.25)]
    assert [chance > 0 for chance in chances(logits, top_k=2, top_p=0.5)] == [True, False, False]


def test_each_row_keeps_to_its_own_rules() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(4, -1)
    rows = rules(
        SamplingRule(False, 1.0, 1, 1.0),
        SamplingRule(False, 0.5, 0, 1.0),
        SamplingRule(True, 1.0, 0, 1.0),
        SamplingRule(False, 1.0, 2, 1.0),
    )
    together = probabilities(logits, rows)
    assert torch.equal(together[0], torch.tensor([0.0, 0.0, 1.0]))
    assert torch.allclose(together[1], (logits[1] * 2).softmax(0))
    assert [chance > 0 for chance in together[3].tolist()] == [False, True, True]
    assert sample(logits, rows, torch.tensor([0.99, 0.0, 0.0, 0.0])).tolist() == [2, 0, 2, 1]


def test_what_was_chosen_before_becomes_less_likely_whatever_its_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    before = torch.tensor([[True, True, False, False]])
    assert penalize(logits, before, torch.tensor([2.0])).tolist() == [[1.0, -4.0, 2.0, -2.0]]


def test_control_ids_are_never_chosen_and_the_end_not_before_two_frames() -> None:
    config = TalkerConfig(
        vocab_size=1030, codec_eos_token_id=1026, num_hidden_layers=1, num_key_value_heads=2
    )
    suppressed = FirstCodebook.of(config, torch.device("cpu")).suppressed
    assert suppressed.nonzero().flatten().tolist() == [*range(6, 1026), *range(1027, 1030)]
    forbidden = forbid(torch.zeros(3, 1030), suppressed, torch.tensor([0, 1, 2]), 1026).isinf()
    assert forbidden[:, 1026].tolist() == [True, True, False]
    assert forbidden[:, suppressed].all()
    assert not forbidden[:, :6].any()


@pytest.mark.parametrize(
    ("number", "drawn"),
    [(0.0, 1), (0.2499999, 1), (0.25, 3), (0.7499999, 3), (0.75, 4), (1 - 2**-23, 4)],
)
def test_a_draw_is_the_inverse_of_the_distribution(number: float, drawn: int) -> None:
    assert draw(torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]]), torch.tensor([number])).item() == drawn


def test_what_has_no_chance_is_never_drawn_even_by_the_largest_number() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4096, 50, generator=generator) * 4
    kept = probabilities(logits, rules(*[SamplingRule(False, 0.9, 7, 1.0)] * 4096))
    for number in (0.0, 1 - 2**-23):
        chosen = draw(kept, torch.full((4096,), number))
        assert (kept.gather(1, chosen[:, None]) > 0).all()


def test_draws_follow_the_chances_over_twenty_seeds() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.5, -3.0]])
    expected = probabilities(logits, sampled(temperature=0.9, top_k=5))[0]
    frames = torch.arange(2000)
    counts = torch.zeros(6)
    for seed in range(20):
        numbers = uniform(torch.full_like(frames, seed), frames, 3)
        counts += torch.bincount(draw(expected.expand(2000, -1), numbers), minlength=6)
    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    missed = (counts - 40_000 * expected)[likely] ** 2 / (40_000 * expected[likely])
    assert missed.sum() < 18.5  # χ² of 4 degrees: one in a thousand is above


def test_the_checkpoint_says_how_it_wants_to_be_sampled() -> None:
    asked = Sampling.of(GenerationConfig(temperature=0.5, top_k=3, subtalker_dosample=False))
    assert asked.talker == SamplingRule(False, 0.5, 3, 1.0)
    assert asked.predictor.greedy
    greedy = Sampling.of(GenerationConfig(repetition_penalty=1.3), greedy=True)
    assert greedy.talker.greedy
    assert greedy.repetition_penalty == 1.3


def reference_probabilities(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """What ``transformers`` does, spelled out one row at a time as its documentation says."""
    scores = logits / temperature
    if top_k:
        scores = scores.masked_fill(scores < scores.topk(min(top_k, len(scores))).values[-1], -math.inf)
    if top_p < 1:
        ordered, ids = scores.sort()
        dropped = ordered.softmax(0).cumsum(0) <= 1 - top_p
        dropped[-1] = False
        scores = scores.scatter(0, ids, ordered.masked_fill(dropped, -math.inf))
    return scores.softmax(0)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0.9, 50, 1.0), (0.3, 0, 0.8), (1.5, 20, 0.95), (1.0, 1, 1.0), (0.9, 3000, 0.2)],
)
def test_random_logits_come_to_the_same_chances_as_by_the_book(
    temperature: float, top_k: int, top_p: float
) -> None:
    logits = torch.randn(8, 600, generator=torch.Generator().manual_seed(7)) * 5
    ours = probabilities(logits, rules(*[SamplingRule(False, temperature, top_k, top_p)] * 8))
    for row in range(8):
        book = reference_probabilities(logits[row], temperature, top_k, top_p)
        assert torch.equal(ours[row] > 0, book > 0)
        assert (ours[row] - book).abs().max() <= 1e-6
