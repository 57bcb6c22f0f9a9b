"""The language model: talker and code predictor, and the frames that both generate for every stream.

In: text ids, prompt rows, the state of all slots, the slots to advance. Out: frames of codes; the state,
advanced in place. Does not know: how a prompt is written, how a code is sampled, whose slot it is, when a
stream ends, sound.

S slots · B some of them · N positions or prompt rows · M rows of several prompts · E talker's hidden size ·
T text hidden size · P predictor's hidden size · V codec vocabulary, or codes in a codebook · Q codebooks ·
X text rows of a slot.

A stream whose next frame is its first has the hidden state of its prompt and takes no talker step: the first
sound costs a prefill, a code predictor and a codec.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import PredictorConfig, TalkerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.devices import to_device
from makima_tts.model.ops.table import Linear, Ops
from makima_tts.model.sampling import FirstCodebook, FrameSampler, SamplerState, Sampling
from makima_tts.model.transformer import ACTIVATIONS, KeyValueCache, PromptRows, RowPositions, Transformer

# Text rows of one product, always padded to this many: their number decides the last bits, and a text must
# have the same rows however it is split.
_TEXT_ROWS = 16

# Logits [B, V] of a codebook → the sampled ids, int64 [B].
Sample = Callable[[Tensor, int], Tensor]
# Begins to sample one frame of some slots, int64 [B].
MakeFrameSampler = Callable[[FirstCodebook, SamplerState, Tensor], FrameSampler]


@dataclass(frozen=True, slots=True)
class TextProjection:
    """Text ids → rows of the talker's size: an embedding and a two-layer perceptron.

    ``embedding`` is in the host's memory: it is a third of the published model, and an utterance needs a few
    of its rows.
    """

    config: TalkerConfig
    embedding: Tensor
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]

    @classmethod
    def load(cls, config: TalkerConfig, weights: Weights) -> "TextProjection":
        """``weights``: names below ``talker``."""
        text, hidden = config.text_hidden_size, config.hidden_size
        first, second = (weights.within(f"text_projection.linear_fc{number}") for number in (1, 2))
        return cls(
            config,
            weights.take_table("model.text_embedding.weight", config.text_vocab_size, text),
            (first.take("weight", text, text), first.take("bias", text)),
            (second.take("weight", hidden, text), second.take("bias", hidden)),
        )

    def rows(self, ids: Sequence[int]) -> Tensor:
        """N ids → [N, E]."""
        padded = [*ids, *[0] * (-len(ids) % _TEXT_ROWS)]
        weight = self.first[0]
        embedded = self.embedding[torch.tensor(padded, dtype=torch.int64)].to(weight.dtype)  # [N + …, T]
        blocks = torch.split(to_device(embedded, weight.device), _TEXT_ROWS)
        return torch.cat([self._projected(block) for block in blocks])[: len(ids)]

    def _projected(self, embedded: Tensor) -> Tensor:
        inner = F.linear(embedded, *self.first)  # [N, T]
        return F.linear(ACTIVATIONS[self.config.hidden_act](inner), *self.second)


@dataclass(frozen=True, slots=True)
class Talker:
    """``embedding``: [V, E], of codes and control ids; ``head``: E → V."""

    config: TalkerConfig
    transformer: Transformer
    text: TextProjection
    embedding: Tensor
    head: Linear

    @classmethod
    def load(cls, config: TalkerConfig, weights: Weights, positions: int, ops: Ops) -> "Talker":
        """``weights``: names below ``talker``. ``positions``: as many rows as one utterance may have."""
        size = config.vocab_size, config.hidden_size
        model = weights.within("model")
        return cls(
            config,
            Transformer.load(config, model, lambda _layer: config.window, positions, ops.layers),
            TextProjection.load(config, weights),
            model.take("codec_embedding.weight", *size),
            ops.logits(weights.take("codec_head.weight", *size)),
        )

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    def step(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        """One row for each stream: [B, E] at positions [B, 1] → hidden, [B, E]."""
        return self.transformer.run(rows.unsqueeze(1), at, cache)[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        """[B, E] → float32 [B, V]."""
        return self.head(hidden).float()


@dataclass(frozen=True, slots=True)
class CodePredictor:
    """``embeddings``: [Q - 1, V, E]; ``heads``: Q - 1 from P to V; ``projection``: E → P, if they differ."""

    config: PredictorConfig
    transformer: Transformer
    embeddings: Tensor
    heads: tuple[Linear, ...]
    projection: Linear | None

    @classmethod
    def load(cls, config: PredictorConfig, talker_hidden: int, weights: Weights, ops: Ops) -> "CodePredictor":
        """``weights``: names below ``talker.code_predictor``."""
        hidden, vocabulary = config.hidden_size, config.vocab_size
        model, indices = weights.within("model"), range(config.num_code_groups - 1)
        projection = None
        if hidden != talker_hidden:
            below = weights.within("small_to_mtp_projection")
            projection = ops.linear(below.take("weight", hidden, talker_hidden), below.take("bias", hidden))
        return cls(
            config,
            Transformer.load(config, model, config.window_of, config.num_code_groups, ops.layers),
            torch.stack(
                [model.take(f"codec_embedding.{i}.weight", vocabulary, talker_hidden) for i in indices]
            ),
            tuple(ops.logits(weights.take(f"lm_head.{i}.weight", vocabulary, hidden)) for i in indices),
            projection,
        )

    def new_cache(self, rows: int) -> KeyValueCache:
        """For one frame of ``rows`` streams; every frame overwrites it."""
        return self.transformer.new_cache(rows, self.config.num_code_groups)

    def predict(
        self,
        talker_rows: Tensor,
        first_codes: Tensor,
        first_embedded: Tensor,
        sample: Sample,
        cache: KeyValueCache,
    ) -> tuple[Tensor, Tensor]:
        """[B, E], int64 [B], [B, E] → codes int64 [B, Q] and the sum of their embeddings, [B, E].

        ``sample`` gets the logits of codebook 1, 2, … in turn.
        """
        codes, embedded = [first_codes], [first_embedded]
        rows = torch.stack((talker_rows, first_embedded), dim=1)  # [B, 2, E]
        start, columns = 0, torch.arange(self.config.num_code_groups, device=rows.device)
        # [Q, B], so that those of a pass are contiguous
        positions = columns.unsqueeze(1).repeat(1, len(rows))
        for index in range(self.config.num_code_groups - 1):
            end = start + rows.shape[1]
            hidden = self._run(rows, positions[start:end].T, end, cache)  # [B, P]
            sampled = sample(self.heads[index](hidden), index + 1)  # [B]
            codes.append(sampled)
            embedded.append(self.embeddings[index][sampled])  # [B, E]
            start = end
            rows = embedded[-1].unsqueeze(1)  # [B, 1, E]
        return torch.stack(codes, dim=1), torch.stack(embedded, dim=1).sum(1)

    def _run(self, rows: Tensor, positions: Tensor, limit: int, cache: KeyValueCache) -> Tensor:
        """[B, N, E] at ``positions`` [B, N] → the last row's hidden state, [B, P]."""
        if self.projection is not None:
            rows = self.projection(rows)  # [B, N, P]
        return self.transformer.run(rows, RowPositions(positions, limit), cache)[:, -1]


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """``rows`` [N, E] of a slot's prompt, to be prefilled from position ``start`` on.

    ``trailing`` [N, E]: the text rows that follow the prompt, one a frame; None for all chunks but the last.
    ``frame``: the number of the prompt's first frame in its utterance.
    """

    slot: int
    start: int
    rows: Tensor = field(repr=False)
    trailing: Tensor | None = field(default=None, repr=False)
    frame: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.rows)


@dataclass(frozen=True, slots=True)
class FrameState:
    """Everything that a stream keeps from frame to frame but for its sound; allocated once for all slots.

    ``position``: where the next row goes; ``advance``: by how much a step moves it: 1, or 0 for a slot that
    only pads batches. ``hidden`` [S, E] is the input of the next frame, ``row`` [S, E] the talker's next row.
    ``text`` [S, X, E]: rows that are added to frames; ``text_at`` of its ``text_rows`` have been.
    """

    cache: KeyValueCache
    predictor_cache: KeyValueCache
    sampling: SamplerState
    position: Tensor
    advance: Tensor
    hidden: Tensor
    row: Tensor
    text: Tensor
    text_at: Tensor
    text_rows: Tensor


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """``codes``: int64 [B, Q]. ``ends``: bool [B], the end of speech. ``broken``: bool [B], NaN."""

    codes: Tensor
    ends: Tensor
    broken: Tensor


class FrameGenerator:
    """Generates frames with one model. ``pad`` [E]: the row that follows the last text row."""

    def __init__(
        self, talker: Talker, predictor: CodePredictor, pad: Tensor, sampler: MakeFrameSampler
    ) -> None:
        self._talker = talker
        self._predictor = predictor
        self._pad = pad
        self._sampler = sampler
        self._first_codebook = FirstCodebook.of(talker.config, talker.device)
        # On the device: a CUDA graph cannot capture a value of the host.
        self._true = torch.ones((), dtype=torch.bool, device=talker.device)

    @property
    def config(self) -> TalkerConfig:
        return self._talker.config

    def new_state(self, slots: int, positions: int, text_rows: int) -> FrameState:
        """``positions`` and ``text_rows``: the capacity of each slot."""
        talker, hidden = self._talker, self.config.hidden_size
        device, dtype = talker.device, talker.dtype

        def counts() -> Tensor:
            return torch.zeros(slots, dtype=torch.int64, device=device)

        return FrameState(
            cache=talker.transformer.new_cache(slots, positions),
            predictor_cache=self._predictor.new_cache(slots),
            sampling=SamplerState.allocate(slots, self.config.vocab_size, device),
            position=counts(),
            advance=counts() + 1,
            hidden=torch.zeros(slots, hidden, device=device, dtype=dtype),
            row=torch.zeros(slots, hidden, device=device, dtype=dtype),
            text=torch.zeros(slots, text_rows, hidden, device=device, dtype=dtype),
            text_at=counts(),
            text_rows=counts(),
        )

    def begin_utterance(self, state: FrameState, slot: int, sampling: Sampling, seed: int) -> None:
        """The slot belongs to a new utterance. ``seed``: 64 bits, signed."""
        _put(state.position, slot, 0)
        _put(state.sampling.seed, slot, seed)
        _put(state.sampling.penalty, slot, sampling.repetition_penalty)
        state.sampling.talker_rules.put(slot, sampling.talker)
        state.sampling.predictor_rules.put(slot, sampling.predictor)

    def copy_prefix(self, state: FrameState, slot: int, count: int) -> KeyValueCache:
        """A copy of the keys and values of a prompt's first ``count`` rows, once they are prefilled."""
        row = state.cache.rows(slot, 1)
        return KeyValueCache(row.keys[:, :, :, :count].clone(), row.values[:, :, :, :count].clone())

    def restore_prefix(self, state: FrameState, slot: int, prefix: KeyValueCache) -> None:
        """Begins a prompt with a copy of this voice and language, from any slot."""
        row, count = state.cache.rows(slot, 1), prefix.positions
        row.keys[:, :, :, :count] = prefix.keys
        row.values[:, :, :, :count] = prefix.values
        _put(state.position, slot, count)

    def prefill(self, state: FrameState, chunks: Sequence[PrefillChunk]) -> None:
        """The cache must hold all that precedes each chunk. Other slots may step between two chunks.

        After a prompt's last chunk the next frame is its first.
        """
        rows = [PromptRows(chunk.rows, chunk.slot, chunk.start) for chunk in chunks]
        self.finish_prefill(state, chunks, self._talker.transformer.prefill(rows, state.cache))

    def prefill_rows(
        self, state: FrameState, rows: Tensor, slots: Tensor, positions: Tensor, limit: int
    ) -> Tensor:
        """Prompt rows of any slots: [M, E], int64 [M] each → hidden states, [M, E].

        As ``prefill``, but with a fixed shape: rows of a spare slot pad it. The caller passes the result to
        ``finish_prefill``.
        """
        return self._talker.step(rows, RowPositions(positions.unsqueeze(1), limit, slots), state.cache)

    def finish_prefill(self, state: FrameState, chunks: Sequence[PrefillChunk], last: Tensor) -> None:
        """``last``: the hidden state of each chunk's last row, [chunks, E]."""
        for chunk, hidden in zip(chunks, last, strict=True):
            _put(state.position, chunk.slot, chunk.end)
            if chunk.trailing is not None:
                _put(state.sampling.frame, chunk.slot, chunk.frame)
                self._end_prompt(state, chunk.slot, hidden, chunk.trailing)

    def _end_prompt(self, state: FrameState, slot: int, hidden: Tensor, trailing: Tensor) -> None:
        state.hidden[slot] = hidden
        _put(state.sampling.prompt_frames, slot, 0)
        _put(state.sampling.sampled, slot, False)
        _put(state.text_at, slot, 0)
        self.append_text(state, slot, 0, trailing)

    def append_text(self, state: FrameState, slot: int, at: int, rows: Tensor) -> None:
        """More text rows, [N, E], after the first ``at``."""
        end = at + len(rows)
        state.text[slot, at:end] = rows
        _put(state.text_rows, slot, end)

    def step(self, state: FrameState, slots: Tensor, limit: int) -> None:
        """The talker's step from the previous frame, int64 [B]: not for a prompt's first frame.

        ``limit`` lies beyond all positions of these slots.
        """
        position = state.position[slots]
        at = RowPositions(position.unsqueeze(1), limit, slots)
        state.hidden[slots] = self._talker.step(state.row[slots], at, state.cache)
        state.position[slots] = position + state.advance[slots]

    def generate(self, state: FrameState, slots: Tensor) -> SampledFrames:
        """One frame of each of these streams, int64 [B]."""
        hidden = state.hidden[slots]
        sampler = self._sampler(self._first_codebook, state.sampling, slots)
        first = sampler.sample_first(self._talker.logits(hidden))  # [B]
        cache = state.predictor_cache.rows(0, len(slots))  # every frame overwrites it
        codes, embedded = self._predictor.predict(
            hidden, first, self._talker.embedding[first], sampler.sample, cache
        )
        self._advance(state, slots, first, embedded)
        return SampledFrames(codes, first == self.config.codec_eos_token_id, sampler.broken)

    def _advance(self, state: FrameState, slots: Tensor, first: Tensor, embedded: Tensor) -> None:
        """Stores the frame and the talker's next row."""
        at = state.text_at[slots]
        has_text = at < state.text_rows[slots]
        text = state.text[slots, at.clamp(max=state.text.shape[1] - 1)]  # [B, E]
        state.row[slots] = embedded + torch.where(has_text.unsqueeze(1), text, self._pad)
        state.sampling.sampled[slots, first] = self._true
        state.text_at[slots] = at + has_text
        state.sampling.frame[slots] += 1
        state.sampling.prompt_frames[slots] += 1


def _put(numbers: Tensor, slot: int, number: float) -> None:
    """``numbers[slot] = number``, which would make the host wait for all that CUDA has queued."""
    numbers[slot].fill_(number)
