"""From logits to a code: the rules that the reference applies, for each row of a batch by its own parameters.

In: logits, what was chosen before, parameters, uniform numbers. Out: codes. Does not know: where logits
come from, slots' owners.

S slots · B batch rows · V codec vocabulary. The order of the rules is that of ``transformers`` 4.57:
repetition penalty, minimum frames, suppression; then, unless a row is greedy, temperature, top-k, top-p.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CONTROL_IDS, GenerationConfig, TalkerConfig

MIN_FRAMES = 2

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """For one utterance. ``top_k`` 0 and ``top_p`` 1 keep everything; ``greedy`` takes the likeliest."""

    greedy: bool
    temperature: float
    top_k: int
    top_p: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one utterance is sampled: codebook 0, and the code predictor's."""

    talker: SamplingRule
    predictor: SamplingRule
    repetition_penalty: float

    @classmethod
    def of(cls, config: GenerationConfig, *, greedy: bool = False) -> "Sampling":
        """What the checkpoint's ``generation_config.json`` asks for; ``greedy`` leaves the penalty on."""
        return cls(
            SamplingRule(greedy or not config.do_sample, config.temperature, config.top_k, config.top_p),
            SamplingRule(
                greedy or not config.subtalker_dosample,
                config.subtalker_temperature,
                config.subtalker_top_k,
                config.subtalker_top_p,
            ),
            config.repetition_penalty,
        )


@dataclass(frozen=True, slots=True)
class RuleRows:
    """One SamplingRule a row, on the device: each [S].

    ``beyond_top_p`` is 1 - top_p, subtracted before it is rounded to float32, as the reference does it.
    """

    greedy: Tensor
    temperature: Tensor
    top_k: Tensor
    beyond_top_p: Tensor

    @classmethod
    def allocate(cls, slots: int, device: torch.device) -> "RuleRows":
        return cls(
            torch.ones(slots, dtype=torch.bool, device=device),
            torch.ones(slots, device=device),
            torch.zeros(slots, dtype=torch.int64, device=device),
            torch.zeros(slots, device=device),
        )

    def put(self, slot: int, rule: SamplingRule) -> None:
        """Filled, not assigned: for that the host would wait until CUDA has computed all before it."""
        self.greedy[slot].fill_(rule.greedy)
        self.temperature[slot].fill_(rule.temperature)
        self.top_k[slot].fill_(rule.top_k)
        self.beyond_top_p[slot].fill_(1 - rule.top_p)

    def of(self, slots: Tensor) -> "RuleRows":
        """Those of some slots, int64 [n]."""
        return RuleRows(
            self.greedy[slots], self.temperature[slots], self.top_k[slots], self.beyond_top_p[slots]
        )


def suppressed_ids(config: TalkerConfig, device: torch.device) -> Tensor:
    """bool [V]: ids of codebook 0 that are never chosen."""
    ids = torch.arange(config.vocab_size, device=device)
    return (ids >= config.vocab_size - CONTROL_IDS) & (ids != config.codec_eos_token_id)


def penalize(logits: Tensor, chosen_before: Tensor, penalty: Tensor) -> Tensor:
    """Make what was chosen before less likely: [B, V], bool [B, V], [B] → [B, V].

    The rule of CTRL (arXiv:1909.05858): positive logits are divided, negative ones multiplied.
    """
    factor = penalty.unsqueeze(1)
    return torch.where(chosen_before, torch.where(logits < 0, logits * factor, logits / factor), logits)


def forbid(logits: Tensor, suppressed: Tensor, frames: Tensor, eos_id: int) -> Tensor:
    """Control ids, and an end before MIN_FRAMES: [B, V], bool [V], int64 [B] (made so far) → [B, V]."""
    logits = logits.masked_fill(suppressed, _NEVER)
    too_early = (frames < MIN_FRAMES).unsqueeze(1)  # [B, 1]
    ends = torch.arange(logits.shape[1], device=logits.device) == eos_id  # [V]
    return logits.masked_fill(too_early & ends, _NEVER)


def probabilities(logits: Tensor, rules: RuleRows) -> Tensor:
    """float32 [B, V] → [B, V] after temperature, top-k and top-p; greedy rows as if they were not."""
    scaled = logits / rules.temperature.unsqueeze(1)
    if _nobody_asks_for_top_p(rules):
        return _top_k(scaled, rules.top_k).softmax(dim=1)
    ordered, ids = scaled.sort(dim=1)  # [B, V], the likeliest last
    vocabulary = logits.shape[1]
    places = (vocabulary - rules.top_k).clamp(0, vocabulary - 1).unsqueeze(1)  # [B, 1]
    least = ordered.gather(1, places)
    in_top_k = (ordered >= least) | (rules.top_k == 0).unsqueeze(1)  # ties with the last one stay
    ordered = ordered.masked_fill(~in_top_k, _NEVER)
    beneath = ordered.softmax(dim=1).cumsum(dim=1)  # [B, V]: of this one and all that are less likely
    beyond = rules.beyond_top_p.unsqueeze(1)
    in_top_p = (beneath > beyond) | (beyond <= 0)
    in_top_p[:, -1] = True
    ordered = ordered.masked_fill(~in_top_p, _NEVER)
    return torch.empty_like(ordered).scatter_(1, ids, ordered).softmax(dim=1)


def _nobody_asks_for_top_p(rules: RuleRows) -> bool:
    """Only asked on a CPU, where an answer costs nothing."""
    return rules.beyond_top_p.device.type == "cpu" and not (rules.beyond_top_p > 0).any()


def _top_k(scaled: Tensor, top_k: Tensor) -> Tensor:
    """What the sort above leaves when nobody asks for top-p: on a CPU a tenth of the time."""
    most = min(int(top_k.max()), scaled.shape[1])
    if most == 0:
        return scaled
    largest = scaled.topk(most, dim=1).values  # [B, most], the likeliest first
    least = largest.gather(1, (top_k - 1).clamp(0, most - 1).unsqueeze(1))
    return scaled.masked_fill((scaled < least) & (top_k > 0).unsqueeze(1), _NEVER)


def draw(chances: Tensor, uniform: Tensor) -> Tensor:
    """The inverse of the distribution function: [B, V], [B] in 0 ≤ u < 1 → int64 [B].

    Never an id without a chance: ids are counted whose cumulated chance ``u`` has reached.
    """
    cumulated = chances.cumsum(dim=1)
    target = uniform.unsqueeze(1) * cumulated[:, -1:]
    return (cumulated <= target).sum(dim=1)


def choose(logits: Tensor, rules: RuleRows, uniform: Tensor) -> Tensor:
    """float32 [B, V], uniform [B] → int64 [B]."""
    return torch.where(rules.greedy, logits.argmax(dim=1), draw(probabilities(logits, rules), uniform))
