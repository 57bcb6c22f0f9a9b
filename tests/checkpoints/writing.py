"""Writes a Qwen3-TTS-12Hz Base checkpoint with random weights, in the layout that is published.

In: a Shape. Out: a folder that our engine and the reference package both load. Does not know: either of them.

Random weights say nothing of how a model sounds, and everything about what it costs.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.checkpoints.configuration import codec_config, model_config
from tests.checkpoints.shapes import QUICK, Shape
from tests.checkpoints.tensors import Config, codec_sizes, model_sizes
from tests.checkpoints.tiny_tokenizer import write_tokenizer
from tests.checkpoints.weights import drawn, let_end

_ROOT = Path(__file__).parents[2]


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
    weights = drawn(model_sizes(model), shape, torch.bfloat16)
    if shape.ends_with_text:
        let_end(weights, model)
    save_file(weights, folder / "model.safetensors")
    save_file(
        drawn(codec_sizes(codec), shape, torch.float32), folder / "speech_tokenizer" / "model.safetensors"
    )
    return folder


def write_ending_checkpoint(folder: Path) -> Path:
    """The quick checkpoint, whose speech lasts as long as its text; returns ``folder``."""
    return write_checkpoint(folder, replace(QUICK, ends_with_text=True))


def checkpoint_in(folder: Path, size: str) -> Path:
    """Written by a process of its own, which takes gigabytes, and once."""
    path = folder / size
    if not path.exists():
        unfinished = folder / f"{size}.unfinished"
        writer = [sys.executable, "-m", "tests.checkpoints", str(unfinished), "--size", size]
        subprocess.run(writer, check=True, cwd=_ROOT, stdout=subprocess.DEVNULL)
        unfinished.rename(path)
    return path


def _write_json(path: Path, fields: Config) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")
