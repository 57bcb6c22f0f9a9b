"""Probabilities after the sampler rules that the reference passes to ``transformers``' generate.

In: no checkpoint. Out: logits, the previously sampled codes, the probabilities after all rules. Runs in the
environment of the reference. Does not know: our model.
"""

from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCABULARY, EOS = 1100, 1090
# Temperature, top-k, top-p, repetition penalty, number of previously sampled codes. 0 and 1 turn a rule off.
RULES = (
    (0.9, 50, 1.0, 1.05, 9),
    (0.9, 50, 1.0, 1.05, 1),
    (0.9, 50, 1.0, 1.05, 0),
    (1.0, 0, 1.0, 1.0, 5),
    (0.5, 3, 1.0, 1.3, 30),
    (1.7, 0, 0.6, 1.05, 12),
    (0.8, 20, 0.9, 2.0, 12),
    (1.0, 1, 1.0, 1.05, 2),
    (1.0, 0, 0.01, 1.05, 2),
    (1.0, 5000, 0.95, 0.8, 4),
    (1.0, 0, 0.8, 1.0, 2),
    (1.0, 0, 0.6, 1.0, 2),
    (1.0, 0, 0.4, 1.0, 2),
)
_ROWS = 4


def make(_checkpoint: Path, shape: str) -> dict[str, torch.Tensor]:
    """The same for all shapes. ``rules`` is RULES, float64 [cases, 5]."""
    if shape != "odd":
        return {}
    tensors = {"rules": torch.tensor(RULES, dtype=torch.float64)}
    for number, (temperature, top_k, top_p, penalty, before) in enumerate(RULES):
        draw = np.random.Generator(np.random.PCG64(number))
        logits = torch.from_numpy((draw.random((_ROWS, VOCABULARY), np.float32) - 0.5) * 16)
        # The first row is crafted: ties at the edge of top-k, the end of speech far ahead, a wide gap.
        logits[0] = torch.arange(VOCABULARY) % 7 - 3.0
        logits[0, EOS] = 9.0
        # The second is uniform: five codes share all probability, at the edge of some top-p.
        logits[1] = -50.0
        logits[1, :5] = 1.0
        chosen = torch.from_numpy(draw.integers(0, VOCABULARY - 1024, (_ROWS, before)))
        rules = LogitsProcessorList(
            [
                RepetitionPenaltyLogitsProcessor(penalty),
                MinNewTokensLengthLogitsProcessor(0, 2, EOS),
                SuppressTokensLogitsProcessor([i for i in range(VOCABULARY - 1024, VOCABULARY) if i != EOS]),
                TemperatureLogitsWarper(temperature),
            ]
        )
        rules += [TopKLogitsWarper(top_k)] if top_k else []
        rules += [TopPLogitsWarper(top_p)] if top_p < 1 else []
        tensors |= {
            f"{number}.logits": logits,
            f"{number}.chosen": chosen,
            f"{number}.chances": rules(chosen, logits).softmax(-1),
        }
    return tensors
