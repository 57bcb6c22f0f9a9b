"""The engine's steps with the kernels all together, as on a GPU: the codes that torch's modules come to.

In buckets that are filled up, launched as graphs would replay them; who else is in one says nothing about
anybody.
"""

from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
import torch

from makima_tts.engines.qwen3 import runner as runners
from makima_tts.engines.qwen3.cuda_graphs import CudaGraphExecutor
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.model import speech_model
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.ops import table
from makima_tts.model.prompt import VoiceRows
from makima_tts.model.sampling import Sampling
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.triton import linear
from makima_tts.model.triton.transformer import TritonStack
from tests.checkpoints.models import ENDING, checkpoint_folder, small_model
from tests.kernels.places import DEVICE
from tests.qwen3.recording import not_captured

TEXTS = ("The lamps.", "Who is there?", "Nobody.")


def with_kernels() -> SpeechModel:
    with (
        mock.patch.object(table, "kernels_lack", return_value=None),
        mock.patch.object(speech_model, "select_ops", return_value=table.triton_ops()),
    ):
        model = SpeechModel.load(
            Checkpoint.open(checkpoint_folder(ENDING)), DEVICE, torch.float32, positions=128
        )
    assert isinstance(model.talker.transformer.stack, TritonStack)
    return model


def in_buckets(model: SpeechModel) -> Runner:
    with mock.patch.object(
        runners,
        "_executor",
        lambda model, buffers, _progress: CudaGraphExecutor(
            model, buffers, not_captured, prefill_rows=(32, 64)
        ),
    ):
        return Runner(model, slots=5, positions=128)


def spoken(runner: Runner, model: SpeechModel, slots: Sequence[int], frames: int) -> np.ndarray:
    """Codes, [slots, frames, Q], of all who speak together."""
    parts, furthest = [], 0
    for slot in slots:
        prompt = model.prompts.write(model.tokenizer.encode(TEXTS[slot]), "English", VoiceRows())
        runner.begin(slot, Sampling.of(model.config.generation), slot, {})
        parts += runner.prefill_chunks(slot, prompt)
        furthest = max(furthest, len(prompt.rows))
    runner.prefill(parts).wait()
    codes = []
    for number in range(frames):
        at, stepped = [number] * len(slots), slots if number else []
        codes.append(runner.generate_frames(slots, stepped, furthest + number, at).wait().codes)
    return np.stack(codes, axis=1)


@pytest.mark.usefixtures("products_as_on_a_gpu")
def test_steps_of_kernels_come_to_the_codes_of_torchs_modules_in_company_and_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if DEVICE.type == "cpu":  # interpreted, a program takes as long as another, however much it computes
        monkeypatch.setattr(linear, "_ENOUGH_PROGRAMS", 1)
    with torch.inference_mode():
        kernels, torchs = with_kernels(), small_model(ENDING)
        runner = in_buckets(kernels)
        together = spoken(runner, kernels, [0, 1, 2], 2)  # and a spare one
        expected = spoken(Runner(torchs, slots=3, positions=128), torchs, [0, 1, 2], 2)
        assert np.array_equal(together, expected)
        assert np.array_equal(spoken(runner, kernels, [1], 1)[0], together[1, :1])
