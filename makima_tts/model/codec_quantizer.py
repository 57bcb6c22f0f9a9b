"""Features become codes: the nearest vector of one codebook after the other.

In: features of frames. Out: codes, in slices of work. Does not know: sound, what codes are for.

F frames · E hidden size · V codebook's width · N codes in a codebook · Q codebooks.

The source is ``MimiSplitResidualVectorQuantizer`` of ``transformers`` 4.57.3: the semantic and the acoustic
codebooks each start from the features, and within each, a codebook codes what those before it left.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecEncoderConfig
from makima_tts.model.checkpoint.weights import Weights
from makima_tts.model.pace import Pace

# Below it, a code's usage counts as this much.
_LEAST_USAGE = 1e-5


@dataclass(frozen=True, slots=True)
class Codebook:
    """``vectors``: [N, V]. ``half_squares``: [N], half of each vector's squared length."""

    vectors: Tensor = field(repr=False)
    half_squares: Tensor = field(repr=False)

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "Codebook":
        """The checkpoint keeps sums over training and how often each code was used: a vector is the mean."""
        width = config.vector_quantization_hidden_dimension
        total = weights.take("embed_sum", config.codebook_size, width)
        usage = weights.take("cluster_usage", config.codebook_size)
        vectors = total / usage.clamp(min=_LEAST_USAGE)[:, None]
        return cls(vectors, vectors.square().sum(1) / 2)

    def nearest(self, x: Tensor) -> Tensor:
        """[F, V] → int64 [F]. Half of the squared distance, but for what all codes share, decides."""
        return torch.addmm(self.half_squares, x, self.vectors.T, alpha=-1).argmin(1)


@dataclass(frozen=True, slots=True)
class ResidualQuantizer:
    """``inward``: [V, E], or None where the features are as wide as the codebooks."""

    inward: Tensor | None = field(repr=False)
    codebooks: tuple[Codebook, ...]

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights, codebooks: int) -> "ResidualQuantizer":
        width, hidden = config.vector_quantization_hidden_dimension, config.hidden_size
        inward = weights.take("input_proj.weight", width, hidden, 1).squeeze(2) if width != hidden else None
        loaded = (
            Codebook.load(config, weights.within(f"layers.{index}.codebook")) for index in range(codebooks)
        )
        return cls(inward, tuple(loaded))

    def __call__(self, x: Tensor, pace: Pace) -> Generator[None, None, list[Tensor]]:
        """[F, E] → int64 [F] for each codebook."""
        left = x if self.inward is None else F.linear(x, self.inward)  # [F, V]
        codes = []
        for codebook in self.codebooks:
            codes.append(codebook.nearest(left))
            left = left - codebook.vectors[codes[-1]]
            if pace.full(len(x) * codebook.vectors.numel()):
                yield
        return codes


@dataclass(frozen=True, slots=True)
class SplitQuantizer:
    """The first codebooks say what is spoken, the others how it sounds."""

    semantic: ResidualQuantizer
    acoustic: ResidualQuantizer

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights, codebooks: int) -> "SplitQuantizer":
        """The first ``codebooks`` of all that there are."""
        semantic = min(config.num_semantic_quantizers, codebooks)
        return cls(
            ResidualQuantizer.load(config, weights.within("semantic_residual_vector_quantizer"), semantic),
            ResidualQuantizer.load(
                config, weights.within("acoustic_residual_vector_quantizer"), codebooks - semantic
            ),
        )

    def __call__(self, x: Tensor, pace: Pace) -> Generator[None, None, Tensor]:
        """[F, E] → int64 [F, Q]."""
        semantic = yield from self.semantic(x, pace)
        acoustic = yield from self.acoustic(x, pace)
        return torch.stack([*semantic, *acoustic], dim=1)
