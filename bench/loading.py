"""Our model in a precision that a measurement chose.

In: a checkpoint, a device, the name of a precision. Out: a loaded model. Does not know: what is measured.
"""

from pathlib import Path

from bench.served_precisions import ANYWHERE, PRECISIONS
from makima_tts.model import CpuPrecision
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.devices import device_of, precision_on
from makima_tts.model.speech_model import SpeechModel

__all__ = ["PRECISIONS", "load_model"]


def load_model(folder: Path, device: str, precision: CpuPrecision, *, positions: int) -> SpeechModel:
    place = device_of(device)
    how = precision_on(place, ANYWHERE.get(precision, "auto"), precision)
    return SpeechModel.load(
        Checkpoint.open(folder),
        place,
        how.dtype,
        positions=positions,
        weight_bits=how.weight_bits,
    )
