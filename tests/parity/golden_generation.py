"""The reference's prompt rows, and the codes that it generates greedily.

In: a checkpoint. Out: per case the inputs, the prompt rows, the trailing text, the codes. Runs in the
reference's environment. Does not know: our model.

Ids and codes are drawn at random: the tokenizer and the encoders have their own golden files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from qwen_tts.core.models import Qwen3TTSForConditionalGeneration

MAX_FRAMES = 100
REFERENCE_FRAMES = 23
# (name, ICL, streaming text, language, length of the text, length of the transcript)
CASES = (
    ("xvector_streaming", False, True, "english", 17, 0),
    ("xvector_streaming_auto", False, True, "auto", 1, 0),
    ("xvector_whole", False, False, "japanese", 12, 0),
    ("icl_streaming_long", True, True, "german", 30, 9),
    ("icl_streaming_short", True, True, "chinese", 4, 7),
    ("icl_streaming_level", True, True, "french", 14, 9),
    ("icl_whole", True, False, "english", 11, 8),
    ("icl_whole_auto", True, False, "auto", 5, 8),
)
# The least margin of a code, in units of the spread of its logits: rounding on another machine must not
# change the code.
LEAST_MARGIN = 2e-5
_ATTEMPTS = 40


def make(checkpoint: Path, shape: str) -> dict[str, torch.Tensor]:
    """Raises RuntimeError when no draw of a case has clear margins for all codes."""
    model = Qwen3TTSForConditionalGeneration.from_pretrained(str(checkpoint), dtype=torch.float32)
    tensors: dict[str, torch.Tensor] = {}
    for number, case in enumerate(CASES):
        for attempt in range(_ATTEMPTS):
            made, margin = _run(model, case, seed=1000 * number + attempt)
            if margin >= LEAST_MARGIN:
                break
        else:
            raise RuntimeError(f"{shape}: {case[0]} has no clear winners")
        print(f"{shape} {case[0]}: draw {attempt}, least margin {margin:.1e}, {len(made['codes'])} frames")
        tensors |= {f"{case[0]}.{name}": tensor for name, tensor in made.items()}
    return tensors


def _run(
    model: Any, case: tuple[str, bool, bool, str, int, int], seed: int
) -> tuple[dict[str, torch.Tensor], float]:
    _, icl, streaming, language, text_length, transcript_length = case
    config = model.config
    draw = np.random.Generator(np.random.PCG64(seed))
    ids = torch.from_numpy(draw.integers(0, config.im_start_token_id, text_length + transcript_length))
    role = torch.tensor([config.im_start_token_id, 77, 10])
    end = torch.tensor([config.im_end_token_id, 10])
    codes = torch.from_numpy(draw.integers(0, config.talker_config.vocab_size - 1024, (REFERENCE_FRAMES, 16)))
    x_vector = torch.from_numpy(draw.random(config.talker_config.hidden_size, np.float32) * 2 - 1)
    text, transcript = ids[:text_length], ids[text_length:]
    asked = {
        "input_ids": [torch.cat((role, text, end, role))[None]],
        "ref_ids": [torch.cat((role, transcript, end))[None]],
        "voice_clone_prompt": {
            "ref_code": [codes if icl else None],
            "ref_spk_embedding": [x_vector],
            "x_vector_only_mode": [not icl],
            "icl_mode": [icl],
        },
        "languages": [language],
        "non_streaming_mode": not streaming,
    }
    with _watched(model) as (prompts, margins):
        frames, _ = model.generate(
            **asked, max_new_tokens=MAX_FRAMES + 1, do_sample=False, subtalker_dosample=False
        )
    made = {
        "text": text,
        "transcript": transcript,
        "reference_codes": codes,
        "x_vector": x_vector,
        "rows": prompts[0]["inputs_embeds"][0],
        "trailing": prompts[0]["trailing_text_hidden"][0],
        "codes": frames[0],
    }
    return {name: tensor.clone().contiguous() for name, tensor in made.items()}, min(margins)


@contextmanager
def _watched(model: Any) -> Iterator[tuple[list[dict[str, torch.Tensor]], list[float]]]:
    """Records the talker's prompts, and the margin of each code in units of the spread of its logits."""
    prompts: list[dict[str, torch.Tensor]] = []
    margins: list[float] = []
    generate, argmax = model.talker.generate, torch.argmax

    def watch_prompt(**asked: Any) -> Any:
        prompts.append(asked)
        return generate(**asked)

    def watch_winner(scores: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if scores.is_floating_point():
            best, second = scores.topk(2).values[0].tolist()
            margins.append((best - second) / scores[scores.isfinite()].std().item())
        return argmax(scores, *args, **kwargs)

    with (
        mock.patch.object(model.talker, "generate", watch_prompt),
        mock.patch.object(torch, "argmax", watch_winner),
    ):
        yield prompts, margins
