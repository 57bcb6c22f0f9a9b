"""One frame for every stream: the talker's step, codebook 0, the code predictor, the next row.

In: the state of all slots, the slots to advance. Out: frames of codes; the state, advanced in place. Does not
know: prompts' texts, whose slot it is, when a stream ends, sound.

S slots · B some of them · N prompt rows · E talker's hidden size · V codec vocabulary
· Q codebooks · R positions of a slot · X text rows of a slot.

A stream whose next frame is its first has the hidden state of its prompt and takes no talker step: the first
sound costs a prefill, a code predictor and a codec.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TalkerConfig
from makima_tts.model.code_predictor import CodePredictor
from makima_tts.model.prompt import Prompt
from makima_tts.model.sampling import FirstCodebook, FrameSampler, SamplerState, Sampling
from makima_tts.model.talker import Talker
from makima_tts.model.transformer import KeyValueCache, PromptRows, RowPositions

# Begins to sample one frame of some slots, int64 [B].
MakeFrameSampler = Callable[[FirstCodebook, SamplerState, Tensor], FrameSampler]


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


def split_into_chunks(
    prompt: Prompt, slot: int, most_rows: int, *, frame: int = 0, prefix_cached: bool = False
) -> list[PrefillChunk]:
    """A prompt in chunks of at most ``most_rows`` rows. ``prefix_cached``: without the voice prefix.

    The voice prefix and the rest are split separately, each at multiples from its own first row. So the
    splits, and the last bits of the result, depend neither on other utterances nor on what is cached.
    """
    prefix_rows = len(prompt.voice_prefix)
    prefix = [] if prefix_cached else _split(slot, 0, prompt.voice_prefix, most_rows)
    rest = _split(slot, prefix_rows, prompt.remainder, most_rows)
    return [*prefix, *rest[:-1], replace(rest[-1], trailing=prompt.trailing, frame=frame)]


def _split(slot: int, start: int, rows: Tensor, most_rows: int) -> list[PrefillChunk]:
    chunks = enumerate(torch.split(rows, most_rows))
    return [PrefillChunk(slot, start + number * most_rows, chunk) for number, chunk in chunks]


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
            cache=talker.new_cache(slots, positions),
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
        self.finish_prefill(state, chunks, self._talker.prefill(rows, state.cache))

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
