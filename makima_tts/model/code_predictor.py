"""The code predictor: from the talker's state and a frame's first code to the other fifteen.

In: the talker's hidden rows and codebook-0 ids. Out: whole frames of codes, and their summed embeddings.
Does not know: text, positions in the utterance.

B batch rows · Q codebooks · V codes in a codebook · E talker's hidden size · P predictor's hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import PredictorConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.ops.table import Linear, Ops
from makima_tts.model.transformer import KeyValueCache, RowPositions, Transformer

# Logits [B, V] of a codebook → the sampled ids, int64 [B].
Sample = Callable[[Tensor, int], Tensor]


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
        positions = columns.unsqueeze(1).repeat(
            1, len(rows)
        )  # [Q, B], so that those of a pass are contiguous
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
