"""Where measurements choose a precision: our model in it, a server with it.

In: a checkpoint, a device, the name of a precision. Out: a loaded model; a server's settings. Does not know:
what is measured.
"""

from pathlib import Path

from makima_tts.model import CpuPrecision, Precision
from makima_tts.model.checkpoint import Checkpoint
from makima_tts.model.devices import arithmetic_of, device_of
from makima_tts.model.speech_model import SpeechModel

# On a CPU; of these, GPUs know those of ``_ANYWHERE``.
PRECISIONS: tuple[CpuPrecision, ...] = ("fp32", "bf16", "int8", "int4")
_ANYWHERE: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}


def load_model(folder: Path, device: str, precision: CpuPrecision, *, positions: int) -> SpeechModel:
    place = device_of(device)
    how = arithmetic_of(place, _ANYWHERE.get(precision, "auto"), precision)
    return SpeechModel.load(
        Checkpoint.open(folder),
        place,
        how.dtype,
        positions=positions,
        weight_bits=how.weight_bits,
    )


def server_settings(folder: Path, device: str, precision: CpuPrecision) -> dict[str, str]:
    """In the environment of ``makima-tts serve``. Nobody is refused for the sake of others."""
    return {
        "TTS_ENGINE": "qwen3",
        "TTS_MODEL_ID": str(folder),
        "TTS_OFFLINE": "true",
        "TTS_DEVICE": device,
        "TTS_PRECISION": _ANYWHERE.get(precision, "auto"),
        "TTS_CPU_PRECISION": precision,
        "TTS_ADMISSION": "slots",
    }
