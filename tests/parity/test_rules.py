"""Sampler rules equal the reference's: penalty, minimum frames, suppression, temperature, top-k, top-p."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from makima_tts.model.checkpoint.config import TalkerConfig
from makima_tts.model.sampling import (
    FirstCodebook,
    RuleRows,
    SamplingRule,
    forbid,
    penalize,
    probabilities,
)

GOLDEN = load_file(Path(__file__).parent / "golden" / "rules_odd.safetensors")
EOS = 1090
# Temperature, top-k, top-p, repetition penalty, number of previously sampled codes.
RULES = GOLDEN["rules"].tolist()


@pytest.mark.parametrize("number", range(len(RULES)))
def test_probabilities_equal_the_references(number: int) -> None:
    temperature, top_k, top_p, penalty, chosen_before = RULES[number]
    before = int(chosen_before)
    logits, chosen, expected = (GOLDEN[f"{number}.{name}"] for name in ("logits", "chosen", "chances"))
    rows, vocabulary = logits.shape
    assert chosen.shape == (rows, before)
    config = TalkerConfig(
        vocab_size=vocabulary, codec_eos_token_id=EOS, num_hidden_layers=1, num_key_value_heads=2
    )
    was_chosen = torch.zeros(rows, vocabulary, dtype=torch.bool).scatter(1, chosen, True)
    rules = RuleRows.allocate(rows, logits.device)
    for row in range(rows):
        rules.put(row, SamplingRule(False, temperature, int(top_k), top_p))
    ours = penalize(logits, was_chosen, torch.full((rows,), penalty))
    ours = forbid(ours, FirstCodebook.of(config, logits.device).suppressed, torch.full((rows,), before), EOS)
    ours = probabilities(ours, rules)
    assert torch.equal(ours > 0, expected > 0)
    assert (ours - expected).abs().max() <= 1e-6


def test_every_rule_has_an_effect_in_some_case() -> None:
    supports = [(GOLDEN[f"{number}.chances"] > 0).sum(1).tolist() for number in range(len(RULES))]
    assert supports[3][2:] == [77, 77], "all codes and the end, where nothing is left out"
    assert supports[0][2:] == [50, 50], "top-k"
    assert supports[0][0] > 50, "ties with the last of them stay"
    assert supports[7][2:] == [1, 1]
    assert [supports[number][1] for number in (10, 11, 12)] == [4, 3, 2], "what lies at the edge stays out"
    assert GOLDEN["1.chances"][0, EOS] == 0, "no end after one frame"
    assert GOLDEN["0.chances"][0, EOS] > 0.9
    assert max(supports[5]) < 77, "top-p"
