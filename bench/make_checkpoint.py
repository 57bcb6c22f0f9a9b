"""Writes a Qwen3-TTS-12Hz Base checkpoint with random weights, in the layout that is published.

In: a Shape. Out: a folder that our engine and the reference package both load. Does not know: either of them.

    python -m bench.make_checkpoint FOLDER            # 0.6B, published sizes
    python -m bench.make_checkpoint FOLDER --size 1.7B

Random weights say nothing of how a model sounds, and everything about what it costs. They are drawn by name,
so that a tensor depends on the seed and its own name alone, from a generator whose numbers are the same on
every machine.
"""

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from bench.tiny_tokenizer import write_tokenizer

Config = dict[str, Any]
Sizes = Iterator[tuple[str, tuple[int, ...]]]

LANGUAGE_IDS = {
    "chinese": 5, "english": 0, "german": 3, "italian": 20, "portuguese": 21, "spanish": 4, "japanese": 8,
    "korean": 14, "french": 11, "russian": 19,
}  # fmt: skip
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


@dataclass(frozen=True)
class Shape:
    """The parts of the configuration files that differ from one size to another."""

    talker: Config
    predictor: Config
    speaker: Config
    encoder: Config
    decoder: Config
    seed: int = 0
    first_special_id: int = 151643
    # How far apart logits lie: with random weights, the larger, the more codes win by a clear margin.
    head_gain: float = 8.0
    generation: Config = field(default_factory=dict)


PUBLISHED_CODEC: dict[str, Config] = {
    "encoder": {"num_quantizers": 32},
    "decoder": {
        "codebook_size": 2048, "codebook_dim": 512, "hidden_size": 512, "latent_dim": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "intermediate_size": 1024,
        "sliding_window": 72, "upsample_rates": [8, 5, 4, 3], "upsampling_ratios": [2, 2], "decoder_dim": 1536,
    },
}  # fmt: skip
_PREDICTOR: Config = {
    "hidden_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 16, "num_key_value_heads": 8,
    "head_dim": 128, "intermediate_size": 3072, "vocab_size": 2048, "rope_theta": 1000000,
}  # fmt: skip
_TALKER: Config = {
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 3072, "text_hidden_size": 2048, "text_vocab_size": 151936, "rope_theta": 1000000,
}  # fmt: skip
PUBLISHED: dict[str, Shape] = {
    "0.6B": Shape(
        talker={**_TALKER, "hidden_size": 1024, "intermediate_size": 3072},
        predictor=_PREDICTOR,
        speaker={"enc_dim": 1024},
        **PUBLISHED_CODEC,
    ),
    "1.7B": Shape(
        talker={**_TALKER, "hidden_size": 2048, "intermediate_size": 6144},
        predictor=_PREDICTOR,
        speaker={"enc_dim": 2048},
        **PUBLISHED_CODEC,
    ),
}


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """All the files of a published checkpoint; returns ``folder``."""
    (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
    model, codec = model_config(shape), codec_config(shape)
    generation = {
        "do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_p": 1.0, "top_k": 50,
        "subtalker_dosample": True, "subtalker_temperature": 0.9, "subtalker_top_p": 1.0, "subtalker_top_k": 50,
        "max_new_tokens": 8192, **shape.generation,
    }  # fmt: skip
    feature_extractor = {
        "feature_extractor_type": "EncodecFeatureExtractor", "sampling_rate": 24000, "feature_size": 1,
        "padding_value": 0.0, "padding_side": "right", "return_attention_mask": True, "chunk_length_s": None,
        "overlap": None,
    }  # fmt: skip
    write_tokenizer(folder, first_special_id=shape.first_special_id)
    _write_json(folder / "config.json", model)
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "speech_tokenizer" / "config.json", codec)
    _write_json(folder / "speech_tokenizer" / "preprocessor_config.json", feature_extractor)
    weights = {name: _draw(name, size, shape) for name, size in model_sizes(model)}
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, folder / "model.safetensors")
    save_file(
        {name: _draw(name, size, shape) for name, size in codec_sizes(codec)},
        folder / "speech_tokenizer" / "model.safetensors",
    )
    return folder


def _write_json(path: Path, fields: Config) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")


def model_config(shape: Shape) -> Config:
    """``config.json``."""
    first_id = shape.talker["vocab_size"] - 1024
    predictor = {"rms_norm_eps": 1e-6, "num_code_groups": 16, "hidden_act": "silu", **shape.predictor}
    talker = {
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "num_code_groups": 16,
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
        "model_type": "mimi", "sampling_rate": 24000, "hidden_size": 512, "num_filters": 64,
        "upsampling_ratios": [8, 6, 5, 4], "num_residual_layers": 1, "compress": 2, "kernel_size": 7,
        "last_kernel_size": 3, "residual_kernel_size": 3, "codebook_size": 2048, "codebook_dim": 256,
        "vector_quantization_hidden_dimension": 256, "num_semantic_quantizers": 1, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2048,
        "sliding_window": 250, "_frame_rate": 12.5, "upsample_groups": 512, **shape.encoder,
    }  # fmt: skip
    decoder = {
        "num_quantizers": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000, "hidden_act": "silu", **shape.decoder,
    }  # fmt: skip
    return {
        "architectures": ["Qwen3TTSTokenizerV2Model"],
        "model_type": "qwen3_tts_tokenizer_12hz",
        "encoder_valid_num_quantizers": 16,
        "input_sample_rate": 24000,
        "output_sample_rate": 24000,
        "encode_downsample_rate": 1920,
        "decode_upsample_rate": prod((*decoder["upsample_rates"], *decoder["upsampling_ratios"])),
        "encoder_config": encoder,
        "decoder_config": decoder,
    }


def model_sizes(config: Config) -> Sizes:
    """Names and shapes in ``model.safetensors``."""
    talker = config["talker_config"]
    predictor = talker["code_predictor_config"]
    hidden, text = talker["hidden_size"], talker["text_hidden_size"]
    yield from _transformer("talker.model", talker, qk_norm=True)
    yield "talker.model.codec_embedding.weight", (talker["vocab_size"], hidden)
    yield "talker.model.text_embedding.weight", (talker["text_vocab_size"], text)
    yield from _linear("talker.text_projection.linear_fc1", text, text)
    yield from _linear("talker.text_projection.linear_fc2", text, hidden)
    yield "talker.codec_head.weight", (talker["vocab_size"], hidden)
    yield from _transformer("talker.code_predictor.model", predictor, qk_norm=True)
    for index in range(predictor["num_code_groups"] - 1):
        yield f"talker.code_predictor.model.codec_embedding.{index}.weight", (predictor["vocab_size"], hidden)
        size = (predictor["vocab_size"], predictor["hidden_size"])
        yield f"talker.code_predictor.lm_head.{index}.weight", size
    if predictor["hidden_size"] != hidden:
        yield from _linear("talker.code_predictor.small_to_mtp_projection", hidden, predictor["hidden_size"])
    yield from _speaker_encoder("speaker_encoder", config["speaker_encoder_config"])


def codec_sizes(config: Config) -> Sizes:
    """Names and shapes in ``speech_tokenizer/model.safetensors``."""
    yield from _mimi("encoder", config["encoder_config"])
    yield from _codec_decoder("decoder", config["decoder_config"])


def _linear(name: str, inputs: int, outputs: int) -> Sizes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Sizes:
    yield f"{name}.conv.weight", (outputs, inputs, kernel)
    yield f"{name}.conv.bias", (outputs,)


def _transformer(name: str, config: Config, *, qk_norm: bool) -> Sizes:
    hidden, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    for index in range(config["num_hidden_layers"]):
        layer = f"{name}.layers.{index}"
        yield f"{layer}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{layer}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)
        if qk_norm:
            yield f"{layer}.self_attn.q_norm.weight", (head,)
            yield f"{layer}.self_attn.k_norm.weight", (head,)
        yield f"{layer}.mlp.gate_proj.weight", (config["intermediate_size"], hidden)
        yield f"{layer}.mlp.up_proj.weight", (config["intermediate_size"], hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, config["intermediate_size"])
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
    yield f"{name}.norm.weight", (hidden,)


def _speaker_encoder(name: str, config: Config) -> Sizes:
    channels = config.get("enc_channels", [512, 512, 512, 512, 1536])
    kernels = config.get("enc_kernel_sizes", [5, 3, 3, 3, 1])
    scale, squeezed = config.get("enc_res2net_scale", 8), config.get("enc_se_channels", 128)
    attention, last = config.get("enc_attention_channels", 128), channels[-1]
    yield from _conv(f"{name}.blocks.0", config.get("mel_dim", 128), channels[0], kernels[0])
    for index in range(1, len(channels) - 1):
        block, before, width = f"{name}.blocks.{index}", channels[index - 1], channels[index]
        yield from _conv(f"{block}.tdnn1", before, width, 1)
        for part in range(scale - 1):
            yield from _conv(f"{block}.res2net_block.blocks.{part}", width // scale, width // scale, kernels[index])
        yield from _conv(f"{block}.tdnn2", width, width, 1)
        yield f"{block}.se_block.conv1.weight", (squeezed, width, 1)
        yield f"{block}.se_block.conv1.bias", (squeezed,)
        yield f"{block}.se_block.conv2.weight", (width, squeezed, 1)
        yield f"{block}.se_block.conv2.bias", (width,)
    yield from _conv(f"{name}.mfa", last, last, kernels[-1])
    yield from _conv(f"{name}.asp.tdnn", 3 * last, attention, 1)
    yield f"{name}.asp.conv.weight", (last, attention, 1)
    yield f"{name}.asp.conv.bias", (last,)
    yield f"{name}.fc.weight", (config["enc_dim"], 2 * last, 1)
    yield f"{name}.fc.bias", (config["enc_dim"],)


def _mimi(name: str, config: Config) -> Sizes:
    hidden, width, layer = config["hidden_size"], config["num_filters"], 0
    yield from _conv(f"{name}.encoder.layers.0", 1, width, config["kernel_size"])
    for ratio in reversed(config["upsampling_ratios"]):
        narrow = width // config["compress"]
        block = f"{name}.encoder.layers.{layer + 1}.block"
        yield from _conv(f"{block}.1", width, narrow, config["residual_kernel_size"])
        yield from _conv(f"{block}.3", narrow, width, 1)
        layer += 3
        yield from _conv(f"{name}.encoder.layers.{layer}", width, 2 * width, 2 * ratio)
        width *= 2
    yield from _conv(f"{name}.encoder.layers.{layer + 2}", width, hidden, config["last_kernel_size"])
    for index in range(config["num_hidden_layers"]):
        yield from _mimi_layer(f"{name}.encoder_transformer.layers.{index}", config)
    yield f"{name}.downsample.conv.weight", (hidden, hidden, 4)
    semantic = config["num_semantic_quantizers"]
    yield from _mimi_quantizer(f"{name}.quantizer.semantic_residual_vector_quantizer", config, semantic)
    acoustic = config["num_quantizers"] - semantic
    yield from _mimi_quantizer(f"{name}.quantizer.acoustic_residual_vector_quantizer", config, acoustic)


def _mimi_layer(name: str, config: Config) -> Sizes:
    hidden, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield f"{name}.self_attn.q_proj.weight", (queries, hidden)
    yield f"{name}.self_attn.k_proj.weight", (keys, hidden)
    yield f"{name}.self_attn.v_proj.weight", (keys, hidden)
    yield f"{name}.self_attn.o_proj.weight", (hidden, queries)
    yield f"{name}.mlp.fc1.weight", (config["intermediate_size"], hidden)
    yield f"{name}.mlp.fc2.weight", (hidden, config["intermediate_size"])
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"{name}.{norm}.weight", (hidden,)
        yield f"{name}.{norm}.bias", (hidden,)
    yield f"{name}.self_attn_layer_scale.scale", (hidden,)
    yield f"{name}.mlp_layer_scale.scale", (hidden,)


def _mimi_quantizer(name: str, config: Config, codebooks: int) -> Sizes:
    inner = config["vector_quantization_hidden_dimension"]
    yield f"{name}.input_proj.weight", (inner, config["hidden_size"], 1)
    yield f"{name}.output_proj.weight", (config["hidden_size"], inner, 1)
    for index in range(codebooks):
        codebook = f"{name}.layers.{index}.codebook"
        yield f"{codebook}.initialized", (1,)
        yield f"{codebook}.cluster_usage", (config["codebook_size"],)
        yield f"{codebook}.embed_sum", (config["codebook_size"], config["codebook_dim"])


def _codec_decoder(name: str, config: Config) -> Sizes:
    latent, hidden = config["latent_dim"], config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        yield f"{name}.pre_transformer.layers.{layer}.self_attn_layer_scale.scale", (hidden,)
        yield f"{name}.pre_transformer.layers.{layer}.mlp_layer_scale.scale", (hidden,)
    yield from _transformer(f"{name}.pre_transformer", config, qk_norm=False)
    yield from _linear(f"{name}.pre_transformer.input_proj", latent, hidden)
    yield from _linear(f"{name}.pre_transformer.output_proj", hidden, latent)
    yield from _codec_quantizer(f"{name}.quantizer.rvq_first", config, 1)
    yield from _codec_quantizer(f"{name}.quantizer.rvq_rest", config, config["num_quantizers"] - 1)
    yield from _conv(f"{name}.pre_conv", config["codebook_dim"], latent, 3)
    for index, ratio in enumerate(config["upsampling_ratios"]):
        yield from _upsampling(f"{name}.upsample.{index}", latent, ratio)
    yield from _wave_decoder(f"{name}.decoder", config)


def _codec_quantizer(name: str, config: Config, codebooks: int) -> Sizes:
    outer, inner = config["codebook_dim"], config["codebook_dim"] // 2
    yield f"{name}.input_proj.weight", (inner, outer, 1)
    yield f"{name}.output_proj.weight", (outer, inner, 1)
    for index in range(codebooks):
        codebook = f"{name}.vq.layers.{index}._codebook"
        yield f"{codebook}.cluster_usage", (config["codebook_size"],)
        yield f"{codebook}.embedding_sum", (config["codebook_size"], inner)


def _upsampling(name: str, width: int, ratio: int) -> Sizes:
    yield f"{name}.0.conv.weight", (width, width, ratio)
    yield f"{name}.0.conv.bias", (width,)
    yield f"{name}.1.gamma", (width,)
    yield from _conv(f"{name}.1.dwconv", 1, width, 7)
    yield f"{name}.1.norm.weight", (width,)
    yield f"{name}.1.norm.bias", (width,)
    yield from _linear(f"{name}.1.pwconv1", width, 4 * width)
    yield from _linear(f"{name}.1.pwconv2", 4 * width, width)


def _wave_decoder(name: str, config: Config) -> Sizes:
    widths = [config["decoder_dim"] // 2**level for level in range(len(config["upsample_rates"]) + 1)]
    yield from _conv(f"{name}.0", config["latent_dim"], widths[0], 7)
    for index, (before, width) in enumerate(pairwise(widths)):
        block = f"{name}.{index + 1}.block"
        yield from _snake(f"{block}.0", before)
        yield f"{block}.1.conv.weight", (before, width, 2 * config["upsample_rates"][index])
        yield f"{block}.1.conv.bias", (width,)
        for unit in (2, 3, 4):
            yield from _snake(f"{block}.{unit}.act1", width)
            yield from _conv(f"{block}.{unit}.conv1", width, width, 7)
            yield from _snake(f"{block}.{unit}.act2", width)
            yield from _conv(f"{block}.{unit}.conv2", width, width, 1)
    yield from _snake(f"{name}.{len(widths)}", widths[-1])
    yield from _conv(f"{name}.{len(widths) + 1}", widths[-1], 1, 7)


def _snake(name: str, width: int) -> Sizes:
    yield f"{name}.alpha", (width,)
    yield f"{name}.beta", (width,)


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
    if kind in ("scale", "gamma"):
        return 0.6, 0.4
    if kind in ("bias", "alpha", "beta"):
        return 0.0, 0.2
    if kind == "cluster_usage":
        return 1.2, 0.8
    if "norm" in name:
        return 1.0, 0.3
    if "embedding" in name or kind in ("embed_sum", "embedding_sum"):
        return 0.0, sqrt(3)
    return 0.0, _gain(name, size, shape) * sqrt(3 / prod(size[1:]))


def _gain(name: str, size: tuple[int, ...], shape: Shape) -> float:
    if "lm_head" in name or "codec_head" in name:
        return shape.head_gain
    if name.startswith("decoder.decoder"):
        # Residual units add up; the last convolution makes sound of it, which must stay clear of the clamp.
        return 0.05 if size[0] == 1 else 0.4 if ".conv2." in name else 1.0
    return 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=PUBLISHED, default="0.6B")
    arguments = parser.parse_args()
    print(write_checkpoint(arguments.folder, PUBLISHED[arguments.size]))


if __name__ == "__main__":
    main()
