"""The codec encoder's transformer: every position looks back over all that came before, slice by slice.

In: the features of a slice, and what earlier slices left behind. Out: features; what this slice leaves
behind. Does not know: sound, frames, codes.

T positions of one slice · N positions of earlier slices · E hidden size · H query heads ·
K key heads · D head size.

The source is ``MimiTransformerModel`` of ``transformers`` 4.57.3 as it runs wherever flash attention is not
chosen: every position looks back over all of the clip, whatever ``sliding_window`` says. Flash attention, and
later versions (https://github.com/huggingface/transformers/pull/43971), look back over 250 positions, 10 s;
for clips of up to 10 s there is no difference, and we advise 5 to 15 s.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecEncoderConfig
from makima_tts.model.checkpoint.weights import Weights
from makima_tts.model.layers import ACTIVATIONS, Rotation
from makima_tts.model.pace import Pace


@dataclass(slots=True)
class SeenPositions:
    """What a clip has left behind. ``keys_values``: per layer [2, K, N, D], keys rotated.

    ``position``: how many positions there have been. Nothing of it is shared between clips.
    """

    position: int = 0
    keys_values: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    """What the layers share: how positions of a slice turn, [T, D], and what they see, bool [T, N + T]."""

    rotation: Rotation
    mask: Tensor


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One layer. Matrices over the same input are joined; layer scales are part of ``out`` and ``narrow``."""

    input_norm: Tensor
    input_norm_bias: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    mlp_norm_bias: Tensor
    widen: Tensor
    narrow: Tensor

    @property
    def size(self) -> int:
        """Multiply-adds for one position, but for attention's own."""
        return sum(matrix.numel() for matrix in (self.qkv, self.out, self.widen, self.narrow))

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "EncoderLayer":
        hidden, inner = config.hidden_size, config.intermediate_size
        attention, mlp = weights.within("self_attn"), weights.within("mlp")
        scale = weights.take("self_attn_layer_scale.scale", hidden)
        mlp_scale = weights.take("mlp_layer_scale.scale", hidden)
        queries = config.num_attention_heads * config.head_size
        return cls(
            input_norm=weights.take("input_layernorm.weight", hidden),
            input_norm_bias=weights.take("input_layernorm.bias", hidden),
            qkv=_joined(config, attention, "weight", hidden),
            qkv_bias=_joined(config, attention, "bias") if config.attention_bias else None,
            out=attention.take("o_proj.weight", hidden, queries) * scale[:, None],
            out_bias=attention.take("o_proj.bias", hidden) * scale if config.attention_bias else None,
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            mlp_norm_bias=weights.take("post_attention_layernorm.bias", hidden),
            widen=mlp.take("fc1.weight", inner, hidden),
            narrow=mlp.take("fc2.weight", hidden, inner) * mlp_scale[:, None],
        )


def _joined(config: CodecEncoderConfig, attention: Weights, kind: str, *inputs: int) -> Tensor:
    sizes = {
        "q": config.num_attention_heads * config.head_size,
        "k": config.num_key_value_heads * config.head_size,
        "v": config.num_key_value_heads * config.head_size,
    }
    return torch.cat([attention.take(f"{part}_proj.{kind}", size, *inputs) for part, size in sizes.items()])


@dataclass(frozen=True, slots=True)
class EncoderTransformer:
    """The layers; there is no norm after the last."""

    config: CodecEncoderConfig
    layers: tuple[EncoderLayer, ...] = field(repr=False)

    @classmethod
    def load(cls, config: CodecEncoderConfig, weights: Weights) -> "EncoderTransformer":
        layers = (
            EncoderLayer.load(config, weights.within(f"layers.{index}"))
            for index in range(config.num_hidden_layers)
        )
        return cls(config, tuple(layers))

    def begin(self, device: torch.device) -> SeenPositions:
        """That of a clip of which nothing has been seen."""
        nothing = torch.zeros(2, self.config.num_key_value_heads, 0, self.config.head_size, device=device)
        return SeenPositions(keys_values=[nothing] * len(self.layers))

    def __call__(self, x: Tensor, seen: SeenPositions, pace: Pace) -> Generator[None, None, Tensor]:
        """[T, E] → [T, E]. Replaces what is in ``seen``."""
        place = self._place(x, seen)
        # Multiply-adds for one position that one other looks at: scores, and what is attended to.
        lookback = 2 * self.config.num_attention_heads * self.config.head_size
        for index, layer in enumerate(self.layers):
            x = x + self._attention(layer, x, seen.keys_values, index, place)
            x = x + self._mlp(layer, x)
            if pace.full(place.mask.numel() * lookback + len(x) * layer.size):
                yield
        seen.position += len(x)
        return x

    def _place(self, x: Tensor, seen: SeenPositions) -> _Place:
        first = seen.position - seen.keys_values[0].shape[2]
        there = torch.arange(first, seen.position + len(x), device=x.device)  # [N + T]
        here = there[-len(x) :]
        rotation = Rotation.of(here, self.config.rope_theta, self.config.head_size)
        return _Place(rotation, there <= here[:, None])  # [T, N + T]

    def _attention(
        self, layer: EncoderLayer, x: Tensor, keys_values: list[Tensor], index: int, place: _Place
    ) -> Tensor:
        config = self.config
        normed = F.layer_norm(x, x.shape[-1:], layer.input_norm, layer.input_norm_bias, config.norm_eps)
        heads = F.linear(normed, layer.qkv, layer.qkv_bias).view(len(x), -1, config.head_size)
        shares = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
        query, key, value = torch.split(heads.transpose(0, 1), shares)  # [H, T, D], [K, T, D] twice
        new = torch.stack((place.rotation.turn(key), value))  # [2, K, T, D]
        longer = torch.cat((keys_values[index], new), dim=2)  # [2, K, N + T, D]
        keys_values[index] = longer
        attended = F.scaled_dot_product_attention(
            place.rotation.turn(query),
            longer[0],
            longer[1],
            attn_mask=place.mask,
            enable_gqa=config.num_attention_heads != config.num_key_value_heads,
        )  # [H, T, D]
        return F.linear(attended.transpose(0, 1).flatten(1), layer.out, layer.out_bias)

    def _mlp(self, layer: EncoderLayer, x: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], layer.mlp_norm, layer.mlp_norm_bias, self.config.norm_eps)
        wide = ACTIVATIONS[self.config.hidden_act](F.linear(normed, layer.widen))
        return F.linear(wide, layer.narrow)
