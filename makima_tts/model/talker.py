"""The talker: from prompt rows, and then from frames, to the hidden state and first logits of a frame.

In: text ids, codec ids, rows. Out: embedded rows; hidden states and the logits of codebook 0. Does not know:
how a prompt is written, how a code is sampled, whose slot it is.

B batch rows · N positions · E hidden size · T text hidden size · V codec vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import TalkerConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.devices import to_device
from makima_tts.model.ops.table import Linear, Ops
from makima_tts.model.transformer import ACTIVATIONS, KeyValueCache, PromptRows, RowPositions, Transformer

# Text rows of one product, always padded to this many: their number decides the last bits, and a text must
# have the same rows however it is split.
_TEXT_ROWS = 16


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

    def new_cache(self, rows: int, positions: int) -> KeyValueCache:
        return self.transformer.new_cache(rows, positions)

    def prefill(self, prompts: Sequence[PromptRows], cache: KeyValueCache) -> Tensor:
        """See ``Transformer.prefill``."""
        return self.transformer.prefill(prompts, cache)

    def step(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        """One row for each stream: [B, E] at positions [B, 1] → hidden, [B, E]."""
        return self.transformer.run(rows.unsqueeze(1), at, cache)[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        """[B, E] → float32 [B, V]."""
        return self.head(hidden).float()
