"""Generates speech with the reference package's public API, in the environment of the reference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from qwen_tts import Qwen3TTSModel
from safetensors.torch import save_file


def speak(asked: Mapping[str, Any]) -> None:
    model = Qwen3TTSModel.from_pretrained(asked["model"], dtype=torch.float32)
    codes: list[torch.Tensor] = []
    generate = model.model.generate

    def watched(*args: Any, **kwargs: Any) -> Any:
        made = generate(*args, **kwargs)
        codes.append(made[0][0])
        return made

    model.model.generate = watched
    tensors = {}
    for clone_mode in ("icl", "xvector"):
        for text_mode in ("streaming", "full"):
            sound, _rate_hz = model.generate_voice_clone(
                asked["text"],
                asked["language"],
                ref_audio=asked["clip"],
                ref_text=asked["transcript"],
                x_vector_only_mode=clone_mode == "xvector",
                non_streaming_mode=text_mode == "full",
                do_sample=False,
                subtalker_dosample=False,
                # The last sampled code does not become a frame.
                max_new_tokens=asked["frames"] + 1,
            )
            tensors[f"{clone_mode}.{text_mode}.codes"] = codes[-1].contiguous()
            tensors[f"{clone_mode}.{text_mode}.sound"] = torch.from_numpy(sound[0]).contiguous()
    save_file(tensors, Path(asked["into"]))
