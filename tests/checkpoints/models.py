"""Small checkpoints and the models in them, each made once for all tests of a run.

In: the name of a shape. Out: its folder; its model. Does not know: what is tested.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.speech_model import SpeechModel
from tests.checkpoints import SHAPES, write_checkpoint, write_ending_checkpoint

POSITIONS = 512
# One frame for each token of text, and then the end.
ENDING = "ending"


@cache
def checkpoint_folder(shape: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="makima-tts-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if shape == ENDING:
        return write_ending_checkpoint(folder)
    return write_checkpoint(folder, SHAPES[shape])


@cache
def small_model(
    shape: str, dtype: torch.dtype = torch.float32, weight_bits: int | None = None
) -> SpeechModel:
    checkpoint = Checkpoint.open(checkpoint_folder(shape))
    return SpeechModel.load(
        checkpoint, torch.device("cpu"), dtype, positions=POSITIONS, weight_bits=weight_bits
    )
