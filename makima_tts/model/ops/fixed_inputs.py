"""The inputs that our kernels and torch's leaves are compared with, the same on every card.

In: a checkpoint, a table of leaves. Out: functions that compute some rows of the inputs. Does not know: what
the results should be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from math import prod

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import TransformerConfig
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.ops.table import Ops
from makima_tts.model.sampling import FirstCodebook, SamplerState, SamplingRule
from makima_tts.model.transformer import KeyValueCache, RowPositions, Transformer

# Rows of a family's inputs → the results of its leaf, [B, …] each.
Run = Callable[[slice], tuple[Tensor, ...]]

# Of attention; layers, whose cache is copied for every call, have a quarter.
_POSITIONS = 256
_TOP_K, _TOP_P = SamplingRule(False, 0.9, 50, 1.0), SamplingRule(False, 0.9, 0, 0.9)
_GREEDY = SamplingRule(True, 0.9, 0, 1.0)


@dataclass(frozen=True, slots=True)
class FixedInputs:
    """A method for each family: a table's leaf, and inputs of at most ``rows`` rows for it."""

    checkpoint: Checkpoint
    device: torch.device
    dtype: torch.dtype

    def attention(self, ops: Ops, rows: int) -> Run:
        config = self.checkpoint.config.talker_config
        queries = self._numbers(1, rows, config.num_attention_heads, config.head_size)
        cached = rows, config.num_key_value_heads, _POSITIONS, config.head_size
        keys, values = self._numbers(2, *cached), self._numbers(3, *cached)
        positions, cache_rows = self._positions(rows, _POSITIONS)

        def run(batch: slice) -> tuple[Tensor, ...]:
            at = RowPositions(positions[batch], _POSITIONS, cache_rows[batch])
            return (ops.attention(queries[batch], keys, values, at, config.window),)

        return run

    def layers(self, ops: Ops, rows: int) -> Run:
        """The first layer of talker and code predictor."""
        config, weights = self.checkpoint.config, self.checkpoint.model_weights(self.device, self.dtype)
        talker, predictor = config.talker_config, config.predictor
        weights, of_predictor = weights.within("talker"), "code_predictor.model"
        first = self._layer(ops, rows, talker, weights.within("model"), talker.window)
        second = self._layer(ops, rows, predictor, weights.within(of_predictor), predictor.window_of(0))
        return lambda batch: (*first(batch), *second(batch))

    def _layer(
        self, ops: Ops, rows: int, config: TransformerConfig, weights: Weights, window: int | None
    ) -> Run:
        one = config.model_copy(update={"num_hidden_layers": 1})
        count = _POSITIONS // 4
        transformer = Transformer.load(one, weights, lambda _layer: window, count, ops.layers)
        x = self._numbers(4, rows, 1, config.hidden_size)
        kept = transformer.new_cache(rows, count)
        kept.keys.copy_(self._numbers(5, *kept.keys.shape))
        kept.values.copy_(self._numbers(6, *kept.keys.shape))
        positions, cache_rows = self._positions(rows, count)

        def run(batch: slice) -> tuple[Tensor, ...]:
            cache = KeyValueCache(kept.keys.clone(), kept.values.clone())
            at = RowPositions(positions[batch], count, cache_rows[batch])
            return (transformer.run(x[batch], at, cache),)

        return run

    def linear(self, ops: Ops, rows: int) -> Run:
        """The code predictor's projection, or what it would be."""
        outputs, inputs = self.checkpoint.config.predictor.hidden_size, self._hidden
        leaf = ops.linear(self._numbers(7, outputs, inputs), self._numbers(8, outputs))
        x = self._numbers(9, rows, inputs)
        return lambda batch: (leaf(x[batch]),)

    def logits(self, ops: Ops, rows: int) -> Run:
        leaf = ops.logits(self._numbers(10, self.checkpoint.config.talker_config.vocab_size, self._hidden))
        x = self._numbers(11, rows, self._hidden)
        return lambda batch: (leaf(x[batch]).float(),)

    def sampler(self, ops: Ops, rows: int) -> Run:
        """Greedy rows, rows with top-k and rows with top-p; in a row that is not finite no code counts."""
        config = self.checkpoint.config.talker_config
        state = SamplerState.allocate(rows, config.vocab_size, self.device)
        slots = torch.arange(rows, device=self.device)
        state.seed.copy_(slots * 12345)
        state.prompt_frames.copy_(slots % 4)
        state.penalty.fill_(1.05)
        logits = 3 * self._numbers(12, rows, config.num_code_groups, config.vocab_size).float()
        state.sampled.copy_(logits[:, 0] > 1)
        logits[2, -1, 0] = float("nan")
        for slot, rule in zip(range(rows), cycle((_TOP_K, _TOP_P, _GREEDY)), strict=False):
            state.talker_rules.put(slot, rule)
            state.predictor_rules.put(slot, rule)
        first = FirstCodebook.of(config, self.device)
        vocabulary = self.checkpoint.config.predictor.vocab_size

        def run(batch: slice) -> tuple[Tensor, ...]:
            sampler, given = ops.sampler(first, state, slots[batch]), logits[batch]
            codes = [sampler.sample_first(given[:, 0])]
            codes += [sampler.sample(given[:, i, :vocabulary], i) for i in range(1, config.num_code_groups)]
            return torch.stack(codes, dim=1).masked_fill(sampler.broken[:, None], 0), sampler.broken

        return run

    def codec(self, ops: Ops, rows: int) -> Run:
        """A frame, and then two more."""
        weights = self.checkpoint.codec_weights(self.device, self.dtype).within("decoder")
        decoder = ops.codec(self.checkpoint.config.codec.decoder_config, weights)
        size = rows, 3, decoder.config.num_quantizers
        generator = torch.Generator().manual_seed(13)
        codes = torch.randint(decoder.config.codebook_size, size, generator=generator).to(self.device)
        slots = torch.arange(rows, device=self.device)

        def run(batch: slice) -> tuple[Tensor, ...]:
            state = decoder.new_state(rows)
            given = torch.split(codes[batch], [1, 2], dim=1)
            return tuple(decoder.decode(frames, state, slots[batch]) for frames in given)

        return run

    def finish(self, ops: Ops, rows: int) -> Run:
        """Loud frames, silent ones, some that are clipped, and one that is not finite."""
        codec = self.checkpoint.config.codec
        decoder = codec.decoder_config
        frame_samples = prod(decoder.upsampling_ratios + decoder.upsample_rates)
        samples = 0.5 * self._numbers(14, rows, 2 * frame_samples).float()
        samples[1] *= 1e-4
        samples[2, 0] = float("nan")
        return lambda batch: ops.finish(samples[batch], 2, codec.output_sample_rate)

    @property
    def _hidden(self) -> int:
        return self.checkpoint.config.talker_config.hidden_size

    def _numbers(self, seed: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator).to(self.device, self.dtype)

    def _positions(self, rows: int, count: int) -> tuple[Tensor, Tensor]:
        """[rows, 1], some early and some late; and a row of the cache for each."""
        row = torch.arange(rows, device=self.device)
        return (row * 37 % count).unsqueeze(1), row
