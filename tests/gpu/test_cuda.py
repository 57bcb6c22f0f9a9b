"""The same model on a GPU: greedy codes equal to the CPU's, sound the same, bf16 finite."""

import numpy as np
import pytest
import torch

from makima_tts.audio import as_float
from makima_tts.engine.runner import Runner
from makima_tts.model.checkpoint import Checkpoint
from makima_tts.model.prompt import VoiceRows
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from tests.checkpoints import SHAPES
from tests.small_models import POSITIONS, checkpoint_folder, small_model

FRAMES = 40
TEXT = "The lamps are lit, and the keeper climbs the stairs."

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def on_gpu(shape: str, dtype: torch.dtype = torch.float32) -> SpeechModel:
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    return SpeechModel.load(checkpoint, torch.device("cuda"), dtype, positions=POSITIONS)


@torch.inference_mode()
def spoken(model: SpeechModel, *, greedy: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes int64 [frames, Q] and their sound, float32 [samples]."""
    written = model.prompts.write(model.tokenizer.encode(TEXT), "English", VoiceRows())
    runner = Runner(model, slots=4, positions=POSITIONS, text_rows=POSITIONS)
    runner.begin(0, Sampling.of(model.config.generation, greedy=greedy), 1, {})
    runner.read(runner.parts(0, written))
    codes, sound = [], []
    for number in range(FRAMES):
        codes.append(runner.make([0], [0] if number else [], len(written.rows) + number, [0]).wait().codes[0])
        sound.append(as_float(runner.decode([0], 1).wait().pcm[0]))
    return np.stack(codes), np.concatenate(sound)


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
@pytest.mark.parametrize("shape", SHAPES)
def test_fp32_codes_are_the_cpus_and_the_sound_is_the_same(shape: str, greedy: bool) -> None:
    codes, sound = spoken(on_gpu(shape), greedy=greedy)
    expected_codes, expected = spoken(small_model(shape), greedy=greedy)
    assert np.array_equal(codes, expected_codes)
    error = np.square(sound - expected).sum(dtype=np.float64)
    assert 10 * np.log10(np.square(expected).sum(dtype=np.float64) / error) > 80


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_makes_finite_sound(shape: str) -> None:
    _codes, sound = spoken(on_gpu(shape, torch.bfloat16), greedy=False)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0
