"""Shapes of checkpoints: the published sizes, and small ones that are each odd in their own way.

In: nothing. Out: PUBLISHED, SHAPES, QUICK. Does not know: which tensors a checkpoint of a shape holds.
"""

from dataclasses import dataclass, field

from tests.checkpoints.tensors import Config


@dataclass(frozen=True)
class Shape:
    """The parts of the configuration files that differ from one size to another."""

    talker: Config
    predictor: Config
    speaker: Config
    encoder: Config
    decoder: Config
    seed: int = 0
    codebooks: int = 16
    first_special_id: int = 151643
    # How far apart logits lie: with random weights, the larger, the more codes win by a clear margin.
    head_gain: float = 8.0
    generation: Config = field(default_factory=dict)
    # Speech ends when its text does, rather than by luck.
    ends_with_text: bool = False


_PUBLISHED_ENCODER: Config = {"num_quantizers": 32}
_PUBLISHED_DECODER: Config = {
    "codebook_size": 2048,
    "codebook_dim": 512,
    "hidden_size": 512,
    "latent_dim": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 64,
    "intermediate_size": 1024,
    "sliding_window": 72,
    "upsample_rates": [8, 5, 4, 3],
    "upsampling_ratios": [2, 2],
    "decoder_dim": 1536,
}
_PUBLISHED_PREDICTOR: Config = {
    "hidden_size": 1024,
    "num_hidden_layers": 5,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 2048,
    "rope_theta": 1000000,
}
_PUBLISHED_TALKER: Config = {
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 3072,
    "text_hidden_size": 2048,
    "text_vocab_size": 151936,
    "rope_theta": 1000000,
}
PUBLISHED: dict[str, Shape] = {
    "0.6B": Shape(
        talker={**_PUBLISHED_TALKER, "hidden_size": 1024, "intermediate_size": 3072},
        predictor=_PUBLISHED_PREDICTOR,
        speaker={"enc_dim": 1024},
        encoder=_PUBLISHED_ENCODER,
        decoder=_PUBLISHED_DECODER,
    ),
    "1.7B": Shape(
        talker={**_PUBLISHED_TALKER, "hidden_size": 2048, "intermediate_size": 6144},
        predictor=_PUBLISHED_PREDICTOR,
        speaker={"enc_dim": 2048},
        encoder=_PUBLISHED_ENCODER,
        decoder=_PUBLISHED_DECODER,
    ),
}

_CODES = 512
_SPEAKER: Config = {
    "enc_channels": [32, 32, 32, 32, 96],
    "enc_attention_channels": 16,
    "enc_se_channels": 16,
}
_ENCODER: Config = {
    "num_filters": 4,
    "hidden_size": 32,
    "codebook_size": _CODES,
    "codebook_dim": 16,
    "upsample_groups": 32,
    "vector_quantization_hidden_dimension": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "num_quantizers": 20,
}
_DECODER: Config = {
    "codebook_size": _CODES,
    "codebook_dim": 32,
    "hidden_size": 32,
    "latent_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "intermediate_size": 48,
    "sliding_window": 12,
    "upsample_rates": [8, 5, 4, 3],
    "upsampling_ratios": [2, 2],
    "decoder_dim": 32,
}
_PREDICTOR: Config = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": _CODES,
    "rope_theta": 1000000,
}
_TALKER: Config = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 112,
    "vocab_size": _CODES + 1024,
    "text_hidden_size": 48,
    "text_vocab_size": 1088,
    "rope_theta": 1000000,
}


def _shape(seed: int, *, codebooks: int = 16, **differences: Config) -> Shape:
    """The usual tiny sizes but for what is named: ``talker={"hidden_size": 80}``."""
    parts = {
        "talker": _TALKER,
        "predictor": _PREDICTOR,
        "speaker": _SPEAKER,
        "encoder": _ENCODER,
        "decoder": _DECODER,
    }
    merged = {name: _without_none({**part, **differences.get(name, {})}) for name, part in parts.items()}
    merged["speaker"]["enc_dim"] = merged["talker"]["hidden_size"]
    return Shape(
        talker=merged["talker"],
        predictor=merged["predictor"],
        speaker=merged["speaker"],
        encoder=merged["encoder"],
        decoder=merged["decoder"],
        seed=seed,
        codebooks=codebooks,
        first_special_id=1024,
    )


def _without_none(part: Config) -> Config:
    """None takes a field out of the file."""
    return {name: value for name, value in part.items() if value is not None}


SHAPES: dict[str, Shape] = {
    # Head counts that are no powers of two, heads that do not add up to the hidden size, biases, another
    # activation.
    "odd": _shape(
        1,
        talker={
            "hidden_size": 80,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "attention_bias": True,
            "hidden_act": "gelu",
        },
        predictor={
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "attention_bias": True,
        },
        decoder={"num_attention_heads": 6, "num_key_value_heads": 2},
    ),
    # As in the 1.7B: a projection between talker and code predictor.
    "wide": _shape(2, talker={"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2}),
    # Every window is short, and a frame is 48 samples.
    "windowed": _shape(
        3,
        talker={"use_sliding_window": True, "sliding_window": 24},
        predictor={"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
        encoder={"sliding_window": 16},
        # Without a head size of its own: it follows from the hidden size.
        decoder={
            "hidden_size": 36,
            "head_dim": None,
            "sliding_window": 7,
            "upsample_rates": [2, 2, 3],
            "decoder_dim": 16,
        },
    ),
    # The codec as deep as the published one, and its real window; a code predictor of mixed layers.
    "deep": _shape(
        4,
        predictor={
            "use_sliding_window": True,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        decoder={"num_hidden_layers": 8, "sliding_window": 72},
    ),
}

# For tests of what is around the model: the least that there is of everything.
QUICK = _shape(
    5,
    codebooks=3,
    talker={"num_hidden_layers": 1},
    predictor={"num_hidden_layers": 1},
    decoder={"num_hidden_layers": 1, "decoder_dim": 16},
)
