"""Precisions, and a server with one of them.

In: a checkpoint, a device, the name of a precision. Out: a server's settings. Does not know: what is
measured, or that there is torch.
"""

from pathlib import Path

from makima_tts.model import CpuPrecision, Precision

# On a CPU; of these, GPUs know those of ``ANYWHERE``.
PRECISIONS: tuple[CpuPrecision, ...] = ("fp32", "bf16", "int8", "int4")
ANYWHERE: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16"}


def server_settings(folder: Path, device: str, precision: CpuPrecision) -> dict[str, str]:
    """In the environment of ``makima-tts serve``. Nobody is refused for the sake of others."""
    return {
        "TTS_ENGINE": "qwen3",
        "TTS_MODEL_ID": str(folder),
        "TTS_OFFLINE": "true",
        "TTS_DEVICE": device,
        "TTS_PRECISION": ANYWHERE.get(precision, "auto"),
        "TTS_CPU_PRECISION": precision,
        "TTS_ADMISSION": "slots",
    }
