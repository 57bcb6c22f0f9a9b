"""The reference's encoders on reference audio: codes, x-vectors, resampled clips, mel filters.

In: a checkpoint. Out: per clip its seed, its codes and its x-vector. Runs in the reference's environment.
Does not know: our model.

A clip is drawn again until every code is clearly nearer than the second nearest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import librosa
import numpy as np
import numpy.typing as npt
import torch
from qwen_tts.core.models import Qwen3TTSForConditionalGeneration
from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Model
from transformers.models.mimi import modeling_mimi

from tests.parity.encoder_clips import CASES, RATE_HZ, RESAMPLED, make_clip

# The least margin of a code, in units of the spread of its distances: rounding on another machine must not
# change the code.
LEAST_MARGIN = 1e-4
_ATTEMPTS = 60
# Results that do not depend on the weights are stored once.
_SHAPE_OF_THE_REST = "odd"

Clip = npt.NDArray[np.float32]


@torch.inference_mode()
def make(checkpoint: Path, shape: str) -> dict[str, torch.Tensor]:
    """Raises RuntimeError when no draw of a clip has clear margins for all codes."""
    model = Qwen3TTSForConditionalGeneration.from_pretrained(str(checkpoint), dtype=torch.float32)
    codec = Qwen3TTSTokenizerV2Model.from_pretrained(
        str(checkpoint / "speech_tokenizer"), dtype=torch.float32
    )
    tensors: dict[str, torch.Tensor] = {}
    for case in CASES:
        for seed in range(_ATTEMPTS):
            clip = make_clip(case, seed)
            codes, margin = _encode(codec, clip)
            if margin >= LEAST_MARGIN:
                break
        else:
            raise RuntimeError(f"{shape}: {case.name} has no clear codes")
        print(f"{shape} {case.name}: draw {seed}, least margin {margin:.1e}, {len(codes)} frames")
        tensors |= {
            f"{case.name}.seed": torch.tensor(seed),
            f"{case.name}.codes": codes.to(torch.int16).contiguous(),
            f"{case.name}.x_vector": model.extract_speaker_embedding(clip, RATE_HZ).clone(),
        }
    return tensors | (_rest() if shape == _SHAPE_OF_THE_REST else {})


def _encode(codec: Any, clip: Clip) -> tuple[torch.Tensor, float]:
    with _watched(codec.encoder_valid_num_quantizers) as margins:
        codes = _codes(codec, clip)
    return codes, min(margins)


def _codes(codec: Any, clip: Clip) -> torch.Tensor:
    samples = torch.from_numpy(clip)[None]
    mask = torch.ones_like(samples, dtype=torch.int64)
    codes: torch.Tensor = codec.encode(samples, mask, return_dict=True).audio_codes[0]
    return codes


@contextmanager
def _watched(codebooks: int) -> Iterator[list[float]]:
    """Records the margins of the first codebooks' nearest vectors, in units of the distances' spread."""
    margins: list[float] = []

    def watch_nearest(codebook: Any, left: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(left[None].float(), codebook.embed[None].float(), p=2)[0]
        (best, second), nearest = distances.topk(2, largest=False).values.T, distances.argmin(-1)
        margins.append(((second - best) / distances.std(-1)).min().item())
        return nearest

    with mock.patch.object(modeling_mimi.MimiEuclideanCodebook, "quantize", watch_nearest):
        yield margins
    del margins[codebooks:]


def _rest() -> dict[str, torch.Tensor]:
    resampled = {
        f"resampled.{case.name}": torch.from_numpy(
            librosa.resample(make_clip(case, 0), orig_sr=rate_hz, target_sr=RATE_HZ)
        )
        for rate_hz, case in RESAMPLED.items()
    }
    filters = librosa.filters.mel(sr=RATE_HZ, n_fft=1024, n_mels=128, fmin=0, fmax=12000)
    bands, bins = np.nonzero(filters)
    return resampled | {
        "mel.places": torch.from_numpy(np.stack((bands, bins)).astype(np.int16)),
        "mel.values": torch.from_numpy(filters[bands, bins]),
    }
