"""The configuration files of a checkpoint, with the field names and token ids that are published.

In: a Shape. Out: the contents of config.json and speech_tokenizer/config.json. Does not know: any weights.
"""

from math import prod

from tests.checkpoints.shapes import Shape
from tests.checkpoints.tensors import Config

LANGUAGE_IDS = {
    "chinese": 5,
    "english": 0,
    "german": 3,
    "italian": 20,
    "portuguese": 21,
    "spanish": 4,
    "japanese": 8,
    "korean": 14,
    "french": 11,
    "russian": 19,
}
# Offsets from the first special id, as they are published (151643 and on).
_TEXT_IDS = {
    "im_start_token_id": 1,
    "im_end_token_id": 2,
    "tts_pad_token_id": 28,
    "tts_bos_token_id": 29,
    "tts_eos_token_id": 30,
}
# Offsets from the first id that is no code, as they are published (2048 and on).
_CODEC_IDS = {
    "codec_pad_id": 100,
    "codec_bos_id": 101,
    "codec_eos_token_id": 102,
    "codec_think_id": 106,
    "codec_nothink_id": 107,
    "codec_think_bos_id": 108,
    "codec_think_eos_id": 109,
}
_FIRST_LANGUAGE = 2


def model_config(shape: Shape) -> Config:
    """``config.json``."""
    first_id = shape.talker["vocab_size"] - 1024
    predictor = {
        "rms_norm_eps": 1e-6,
        "num_code_groups": shape.codebooks,
        "hidden_act": "silu",
        **shape.predictor,
    }
    talker = {
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_code_groups": shape.codebooks,
        "rope_scaling": {
            "interleaved": True,
            "mrope_section": mrope_section(shape.talker["head_dim"]),
            "rope_type": "default",
            "type": "default",
        },
        "code_predictor_config": predictor,
        "spk_id": {},
        "spk_is_dialect": {},
        "codec_language_id": {
            name: first_id + _FIRST_LANGUAGE + offset for name, offset in LANGUAGE_IDS.items()
        },
        **{name: first_id + offset for name, offset in _CODEC_IDS.items()},
        **shape.talker,
    }
    return {
        "architectures": ["Qwen3TTSForConditionalGeneration"],
        "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": "0b6",
        "tts_model_type": "base",
        "transformers_version": "4.57.1",
        "speaker_encoder_config": {"sample_rate": 24000, **shape.speaker},
        "talker_config": talker,
        **{name: shape.first_special_id + offset for name, offset in _TEXT_IDS.items()},
    }


def mrope_section(head_dim: int) -> list[int]:
    """Three shares of half a head, in the published proportions (24, 20, 20 of 64)."""
    half = head_dim // 2
    side = half * 20 // 64
    return [half - 2 * side, side, side]


def codec_config(shape: Shape) -> Config:
    """``speech_tokenizer/config.json``."""
    encoder: Config = {
        "model_type": "mimi",
        "sampling_rate": 24000,
        "hidden_size": 512,
        "num_filters": 64,
        "upsampling_ratios": [8, 6, 5, 4],
        "num_residual_layers": 1,
        "compress": 2,
        "kernel_size": 7,
        "last_kernel_size": 3,
        "residual_kernel_size": 3,
        "codebook_size": 2048,
        "codebook_dim": 256,
        "vector_quantization_hidden_dimension": 256,
        "num_semantic_quantizers": 1,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "intermediate_size": 2048,
        "sliding_window": 250,
        "_frame_rate": 12.5,
        "upsample_groups": 512,
        **shape.encoder,
    }
    decoder = {
        "num_quantizers": shape.codebooks,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000,
        "hidden_act": "silu",
        **shape.decoder,
    }
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": shape.codebooks,
        "input_sample_rate": 24000,
        "output_sample_rate": 24000,
        "encode_downsample_rate": 1920,
        "decode_upsample_rate": prod((*decoder["upsample_rates"], *decoder["upsampling_ratios"])),
        "encoder_config": encoder,
        "decoder_config": decoder,
    }
