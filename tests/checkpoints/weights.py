"""Random weights of a checkpoint.

In: names and sizes of tensors, a Shape. Out: tensors by name; on request, speech that lasts as long as its
text. Does not know: files.

Weights are drawn by name, so that a tensor depends on the seed and its own name alone, from a generator whose
numbers are the same on every machine.

With random weights the end of speech is one code among many, drawn by luck. ``let_end`` keeps one dimension
of the talker's hidden state for a single fact: whether this frame's text is the padding that follows the
text. If it is, the end wins against every other code; if it is not, the end is never among the likely ones.
So a token of text is a frame of speech, but for those that cloning with a transcript reads beside the
voice's own frames.
"""

import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod, sqrt
from typing import Any

import numpy as np
import torch

from tests.checkpoints.shapes import Shape

# Kind of tensor → middle and spread.
_OF_KIND = {
    "scale": (0.6, 0.4),
    "gamma": (0.6, 0.4),
    "bias": (0.0, 0.2),
    "alpha": (0.0, 0.2),
    "beta": (0.0, 0.2),
    "cluster_usage": (1.2, 0.8),
}
# In the codec's encoder, what all sounds have in common is small, and codebooks are no wider than what
# differs, so that different sounds come to different codes.
_OF_KIND_IN_ENCODER = {
    "scale": (0.3, 0.2),
    "bias": (0.0, 0.02),
    "cluster_usage": (1.0, 0.2),
    "embed_sum": (0.0, sqrt(3) / 2),
}

_TALKER = "talker.model."
_OUTPUTS = ("o_proj.weight", "down_proj.weight")
# Far above what the other weights can add up to.
_LOUD = 100.0


def drawn(
    sizes: Iterable[tuple[str, tuple[int, ...]]], shape: Shape, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """All of them by name, several at a time: drawing is most of the work."""

    def draw(named: tuple[str, tuple[int, ...]]) -> tuple[str, torch.Tensor]:
        name, size = named
        return name, _draw(name, size, shape).to(dtype)

    with ThreadPoolExecutor() as pool:
        return dict(pool.map(draw, sizes))


def _draw(name: str, size: tuple[int, ...], shape: Shape) -> torch.Tensor:
    """Uniform around a middle that fits the kind of tensor; float32."""
    if name.endswith(".initialized"):
        return torch.ones(size)
    middle, spread = _middle_and_spread(name, size, shape)
    generator = np.random.Generator(np.random.PCG64([shape.seed, zlib.crc32(name.encode())]))
    return torch.from_numpy(middle + spread * (2 * generator.random(size, np.float32) - 1))


def _middle_and_spread(name: str, size: tuple[int, ...], shape: Shape) -> tuple[float, float]:
    """Chosen so that nothing dies out or blows up on its way through the layers, and every part matters."""
    kind = name.rsplit(".", 1)[-1]
    of_kind = _OF_KIND | (_OF_KIND_IN_ENCODER if name.startswith("encoder.") else {})
    if kind in of_kind:
        return of_kind[kind]
    if "norm" in name:
        return 1.0, 0.3
    if "embedding" in name:
        return 0.0, sqrt(3)
    return 0.0, _gain(name, size, shape) * sqrt(3 / prod(size[1:]))


def _gain(name: str, size: tuple[int, ...], shape: Shape) -> float:
    if "lm_head" in name or "codec_head" in name:
        return shape.head_gain
    if name.startswith("encoder.encoder."):
        # Sound is soft; an ELU halves what goes through it; residual units add up.
        return 6.0 if size[1] == 1 else 0.7 if ".block.3." in name else 1.3
    if name.startswith("decoder.decoder"):
        # Residual units add up; the last convolution makes sound of it, which must stay clear of the clamp.
        return 0.05 if size[0] == 1 else 0.4 if ".conv2." in name else 1.0
    return 1.0


def let_end(weights: dict[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """In place."""
    _free_a_dimension(weights)
    _mark_padding(weights, config["tts_pad_token_id"])
    end = weights["talker.codec_head.weight"][config["talker_config"]["codec_eos_token_id"]]
    end[:] = 0
    end[0] = _LOUD


def _free_a_dimension(weights: dict[str, torch.Tensor]) -> None:
    """Nothing but the text's own embedding writes into the first dimension."""
    for name, weight in weights.items():
        if name.startswith(f"{_TALKER}layers.") and name.endswith(_OUTPUTS):
            weight[0] = 0
        if "codec_embedding" in name:
            weight[:, 0] = 0


def _mark_padding(weights: dict[str, torch.Tensor], pad_id: int) -> None:
    """The projection turns the padding's first dimension, and that alone, into the hidden state's."""
    embedding = weights[f"{_TALKER}text_embedding.weight"]
    embedding[:, 0] = 0
    embedding[pad_id, 0] = _LOUD
    for name in ("talker.text_projection.linear_fc1", "talker.text_projection.linear_fc2"):
        weights[f"{name}.weight"][0] = 0
        weights[f"{name}.weight"][0, 0] = 1
        weights[f"{name}.bias"][0] = 0
