"""Writes a Qwen3-TTS-12Hz Base checkpoint with random weights, in the layout that is published.

In: a Shape. Out: a folder that our engine and the reference package both load. Does not know: either of them.

    python -m bench.make_checkpoint FOLDER            # 0.6B, published sizes
    python -m bench.make_checkpoint FOLDER --size 1.7B
    python -m bench.make_checkpoint FOLDER --ends-with-text

Random weights say nothing of how a model sounds, and everything about what it costs. They are drawn by name,
so that a tensor depends on the seed and its own name alone, from a generator whose numbers are the same on
every machine.
"""

import argparse
import json
import subprocess
import sys
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from bench.checkpoint_sizes import Config, codec_sizes, model_sizes
from bench.ending_weights import let_end
from bench.tiny_tokenizer import write_tokenizer

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


_ENCODER: Config = {"num_quantizers": 32}
_DECODER: Config = {
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
_PREDICTOR: Config = {
    "hidden_size": 1024,
    "num_hidden_layers": 5,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 2048,
    "rope_theta": 1000000,
}
_TALKER: Config = {
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
        talker={**_TALKER, "hidden_size": 1024, "intermediate_size": 3072},
        predictor=_PREDICTOR,
        speaker={"enc_dim": 1024},
        encoder=_ENCODER,
        decoder=_DECODER,
    ),
    "1.7B": Shape(
        talker={**_TALKER, "hidden_size": 2048, "intermediate_size": 6144},
        predictor=_PREDICTOR,
        speaker={"enc_dim": 2048},
        encoder=_ENCODER,
        decoder=_DECODER,
    ),
}


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """All the files of a published checkpoint; returns ``folder``."""
    (folder / "speech_tokenizer").mkdir(parents=True, exist_ok=True)
    model, codec = model_config(shape), codec_config(shape)
    generation = {
        "do_sample": True,
        "repetition_penalty": 1.05,
        "temperature": 0.9,
        "top_p": 1.0,
        "top_k": 50,
        "subtalker_dosample": True,
        "subtalker_temperature": 0.9,
        "subtalker_top_p": 1.0,
        "subtalker_top_k": 50,
        "max_new_tokens": 8192,
        **shape.generation,
    }
    feature_extractor = {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "sampling_rate": 24000,
        "feature_size": 1,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": True,
        "chunk_length_s": None,
        "overlap": None,
    }
    write_tokenizer(folder, first_special_id=shape.first_special_id)
    _write_json(folder / "config.json", model)
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "speech_tokenizer" / "config.json", codec)
    _write_json(folder / "speech_tokenizer" / "preprocessor_config.json", feature_extractor)
    weights = _drawn(model_sizes(model), shape, torch.bfloat16)
    if shape.ends_with_text:
        let_end(weights, model)
    save_file(weights, folder / "model.safetensors")
    save_file(
        _drawn(codec_sizes(codec), shape, torch.float32), folder / "speech_tokenizer" / "model.safetensors"
    )
    return folder


def _drawn(
    sizes: Iterable[tuple[str, tuple[int, ...]]], shape: Shape, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """All of them by name, several at a time: drawing is most of the work."""

    def draw(named: tuple[str, tuple[int, ...]]) -> tuple[str, torch.Tensor]:
        name, size = named
        return name, _draw(name, size, shape).to(dtype)

    with ThreadPoolExecutor() as pool:
        return dict(pool.map(draw, sizes))


def _write_json(path: Path, fields: Config) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")


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


def checkpoint_in(folder: Path, size: str) -> Path:
    """Written by a process of its own, which takes gigabytes, and once."""
    path = folder / size
    if not path.exists():
        unfinished = folder / f"{size}.unfinished"
        writer = [sys.executable, "-m", "bench.make_checkpoint", str(unfinished), "--size", size]
        subprocess.run(writer, check=True, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
        unfinished.rename(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=PUBLISHED, default="0.6B")
    parser.add_argument("--ends-with-text", action="store_true", help="speech is as long as its text")
    arguments = parser.parse_args()
    shape = replace(PUBLISHED[arguments.size], ends_with_text=arguments.ends_with_text)
    print(write_checkpoint(arguments.folder, shape))


if __name__ == "__main__":
    main()
