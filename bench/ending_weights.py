"""Makes random weights speak for as long as their text lasts.

In: the weights of a Qwen3-TTS by name, drawn at random, and its config.json. Out: the same, changed in place.
Does not know: what is written or loaded.

With random weights the end of speech is one code among many, drawn by luck. Here one dimension of the
talker's hidden state is kept for a single fact: whether this frame's text is the padding that follows the
text. If it is, the end wins against every other code; if it is not, the end is never among the likely ones.
So a token of text is a frame of speech, but for those that cloning with a transcript reads beside the
voice's own frames.
"""

from collections.abc import Mapping
from typing import Any

import torch

_TALKER = "talker.model."
_OUTPUTS = ("o_proj.weight", "down_proj.weight")
# Far above what the other weights can add up to.
_LOUD = 100.0


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
