"""Sampling: from a row of logits to a code, for each row of a batch by its own rules.

In: logits, what was sampled before, rules, seeds. Out: codes. Does not know: where logits come from, whose
slot it is.

S slots · B of them · V codec vocabulary · Q codebooks. The order of the rules is that of ``transformers``
4.57: repetition penalty, minimum frames, suppression; then, unless a row is greedy, temperature, top-k and
top-p.

Random numbers are a function of seed, frame and codebook: Philox-4x32-10 of Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3" (SC11, 2011), a keyed bijection of a counter in ten rounds of multiplications.
The key is the seed, the counter holds the frame and the codebook. So a number is the same alone, in any
batch, in any slot and in any order.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CONTROL_IDS, GenerationConfig, TalkerConfig

MIN_FRAMES = 2

_NEVER = float("-inf")

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF
# Random bits that are used, of 32: the largest number stays below 1 after any float32 multiplication.
_BITS = 23


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """For one utterance. ``top_k`` 0 and ``top_p`` 1 keep everything; ``greedy`` takes the most probable."""

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
        """Fills and does not assign: an assignment makes the host wait for all that CUDA has queued."""
        self.greedy[slot].fill_(rule.greedy)
        self.temperature[slot].fill_(rule.temperature)
        self.top_k[slot].fill_(rule.top_k)
        self.beyond_top_p[slot].fill_(1 - rule.top_p)

    def of(self, slots: Tensor) -> "RuleRows":
        """Those of some slots, int64 [n]."""
        return RuleRows(
            self.greedy[slots], self.temperature[slots], self.top_k[slots], self.beyond_top_p[slots]
        )


@dataclass(frozen=True, slots=True)
class FirstCodebook:
    """What holds for codebook 0 only, whose vocabulary has control ids. ``suppressed``: bool [V].

    ``codebooks``: int64 [Q], all of a frame.
    """

    eos_id: int
    suppressed: Tensor
    codebooks: Tensor

    @classmethod
    def of(cls, config: TalkerConfig, device: torch.device) -> "FirstCodebook":
        """Suppresses all control ids but the end of speech."""
        ids = torch.arange(config.vocab_size, device=device)
        control = ids >= config.vocab_size - CONTROL_IDS
        suppressed = control & (ids != config.codec_eos_token_id)
        codebooks = torch.arange(config.num_code_groups, device=device)
        return cls(config.codec_eos_token_id, suppressed, codebooks)


@dataclass(frozen=True, slots=True)
class SamplerState:
    """What sampling remembers of each slot; allocated once.

    ``seed``, ``frame``: int64 [S]; ``frame`` counts over an utterance. ``prompt_frames``: int64 [S], frames
    since the prompt. ``sampled``: bool [S, V], the codes of codebook 0 since the prompt. ``penalty``: [S].
    """

    seed: Tensor
    frame: Tensor
    prompt_frames: Tensor
    sampled: Tensor
    penalty: Tensor
    talker_rules: RuleRows
    predictor_rules: RuleRows

    @classmethod
    def allocate(cls, slots: int, vocabulary: int, device: torch.device) -> "SamplerState":
        seed, frame, prompt_frames = (torch.zeros(slots, dtype=torch.int64, device=device) for _ in range(3))
        return cls(
            seed,
            frame,
            prompt_frames,
            torch.zeros(slots, vocabulary, dtype=torch.bool, device=device),
            torch.ones(slots, device=device),
            RuleRows.allocate(slots, device),
            RuleRows.allocate(slots, device),
        )


class FrameSampler(Protocol):
    """One frame of some slots: ``sample_first`` once, then ``sample`` for codebook 1, 2, … in turn."""

    def sample_first(self, logits: Tensor, /) -> Tensor:
        """Codebook 0: float32 [B, V] → int64 [B]."""

    def sample(self, logits: Tensor, codebook: int, /) -> Tensor:
        """[B, V] → int64 [B]."""

    @property
    def broken(self) -> Tensor:
        """bool [B]: whose logits of the first or the last codebook were not all finite.

        Every codebook's rows depend on the one before: what breaks in between shows in the last.
        """


class TorchFrameSampler:
    """A FrameSampler by operations of torch, on any device."""

    def __init__(self, first: FirstCodebook, state: SamplerState, slots: Tensor) -> None:
        self._first = first
        self._state = state
        self._slots = slots
        # Of all codebooks at once: it is many small operations.
        self._uniform = uniform(state.seed[slots, None], state.frame[slots, None], first.codebooks)  # [B, Q]
        self._rules = state.predictor_rules.of(slots)
        self._checked: list[Tensor] = []

    def sample_first(self, logits: Tensor) -> Tensor:
        state, slots, first = self._state, self._slots, self._first
        self._checked = [logits]
        logits = penalize(logits, state.sampled[slots], state.penalty[slots])
        logits = forbid(logits, first.suppressed, state.prompt_frames[slots], first.eos_id)
        return sample(logits, state.talker_rules.of(slots), self._uniform[:, 0])

    def sample(self, logits: Tensor, codebook: int) -> Tensor:
        self._checked[1:] = [logits]
        return sample(logits.float(), self._rules, self._uniform[:, codebook])

    @property
    def broken(self) -> Tensor:
        return ~torch.cat(self._checked, dim=1).isfinite().all(dim=1)


def penalize(logits: Tensor, sampled_before: Tensor, penalty: Tensor) -> Tensor:
    """Make codes that were sampled before less likely: [B, V], bool [B, V], [B] → [B, V].

    The rule of CTRL (arXiv:1909.05858): positive logits are divided, negative ones multiplied.
    """
    factor = penalty.unsqueeze(1)
    return torch.where(sampled_before, torch.where(logits < 0, logits * factor, logits / factor), logits)


def forbid(logits: Tensor, suppressed: Tensor, frames: Tensor, eos_id: int) -> Tensor:
    """Control ids, and an end before MIN_FRAMES: [B, V], bool [V], int64 [B] (frames so far) → [B, V]."""
    logits = logits.masked_fill(suppressed, _NEVER)
    too_early = (frames < MIN_FRAMES).unsqueeze(1)  # [B, 1]
    ends = torch.arange(logits.shape[1], device=logits.device) == eos_id  # [V]
    return logits.masked_fill(too_early & ends, _NEVER)


def probabilities(logits: Tensor, rules: RuleRows) -> Tensor:
    """float32 [B, V] → [B, V] after temperature, top-k and top-p; greedy rows as if they were not."""
    scaled = logits / rules.temperature.unsqueeze(1)
    if _no_row_has_top_p(rules):
        return _top_k(scaled, rules.top_k).softmax(dim=1)
    ordered, ids = scaled.sort(dim=1)  # [B, V], the most probable last
    vocabulary = logits.shape[1]
    index = (vocabulary - rules.top_k).clamp(0, vocabulary - 1).unsqueeze(1)  # [B, 1]
    least = ordered.gather(1, index)
    in_top_k = (ordered >= least) | (rules.top_k == 0).unsqueeze(1)  # ties with the last one stay
    ordered = ordered.masked_fill(~in_top_k, _NEVER)
    beneath = ordered.softmax(dim=1).cumsum(dim=1)  # [B, V]: of a code and all less probable ones
    beyond = rules.beyond_top_p.unsqueeze(1)
    in_top_p = (beneath > beyond) | (beyond <= 0)
    in_top_p[:, -1] = True
    ordered = ordered.masked_fill(~in_top_p, _NEVER)
    return torch.empty_like(ordered).scatter_(1, ids, ordered).softmax(dim=1)


def _no_row_has_top_p(rules: RuleRows) -> bool:
    """Reads the device only on a CPU, where it costs nothing; False elsewhere."""
    return rules.beyond_top_p.device.type == "cpu" and not (rules.beyond_top_p > 0).any()


def _top_k(scaled: Tensor, top_k: Tensor) -> Tensor:
    """The top-k rule alone, without a sort: on a CPU a tenth of the time."""
    most = min(int(top_k.max()), scaled.shape[1])
    if most == 0:
        return scaled
    largest = scaled.topk(most, dim=1).values  # [B, most], the most probable first
    least = largest.gather(1, (top_k - 1).clamp(0, most - 1).unsqueeze(1))
    return scaled.masked_fill((scaled < least) & (top_k > 0).unsqueeze(1), _NEVER)


def draw(probable: Tensor, uniform: Tensor) -> Tensor:
    """The inverse of the distribution function: [B, V], [B] in 0 ≤ u < 1 → int64 [B].

    Never an id of probability 0: it counts the ids whose cumulated probability ``u`` has reached.
    """
    cumulated = probable.cumsum(dim=1)
    target = uniform.unsqueeze(1) * cumulated[:, -1:]
    return (cumulated <= target).sum(dim=1)


def sample(logits: Tensor, rules: RuleRows, uniform: Tensor) -> Tensor:
    """float32 [B, V], uniform [B] → int64 [B]."""
    return torch.where(rules.greedy, logits.argmax(dim=1), draw(probabilities(logits, rules), uniform))


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
    zero = torch.zeros_like(frames)
    counter = (frames & _WORD, zero + codebook, zero, zero)
    word = philox(counter, (seeds & _WORD, (seeds >> 32) & _WORD))[0]
    return (word >> (32 - _BITS)).float() * 2.0**-_BITS
