"""The audio of the reference's codec for random codes, decoded whole, without chunks.

In: a checkpoint. Out: the codes, and every nth of their samples. Runs in the environment of the reference.
Does not know: our model.
"""

from pathlib import Path

import numpy as np
import torch
from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Model

# Many frames where a frame has 48 samples; beyond the published window of 72 frames where it has 1920.
FRAMES = {"windowed": 720, "deep": 100}
_OTHERWISE = 24
# Of long frames every seventh sample is kept: seven has no common factor with an upsampling rate, so all
# phases of all rates occur.
_KEPT_EVERY = 7
_LONG_FRAME_SAMPLES = 1000
# Louder audio would mainly show the clamp, fainter audio hardly any of the computation.
_LOUDNESS = (0.02, 0.5)


@torch.inference_mode()
def make(checkpoint: Path, shape: str) -> dict[str, torch.Tensor]:
    """Raises RuntimeError when the audio is too loud or too faint to compare."""
    decoder = Qwen3TTSTokenizerV2Model.from_pretrained(
        str(checkpoint / "speech_tokenizer"), dtype=torch.float32
    ).decoder
    config = decoder.config
    draw = np.random.Generator(np.random.PCG64(20))
    frames = FRAMES.get(shape, _OTHERWISE)
    codes = (draw.random((frames, config.num_quantizers)) * config.codebook_size).astype(np.int16)
    samples = decoder(torch.from_numpy(codes).long().T[None])[0, 0]
    loudness = samples.std().item()
    if not _LOUDNESS[0] < loudness < _LOUDNESS[1] or samples.abs().max() >= 1:
        raise RuntimeError(f"{shape}: the sound's loudness is {loudness:.3f}")
    every = _KEPT_EVERY if decoder.total_upsample > _LONG_FRAME_SAMPLES else 1
    return {
        "codes": torch.from_numpy(codes),
        "samples": samples[::every].clone(),
        "sample_count": torch.tensor(len(samples)),
        "kept_every": torch.tensor(every),
    }
