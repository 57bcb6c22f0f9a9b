"""Where a model runs, and how precisely.

In: what the operator asked for. Out: a torch device and a number type, or TtsUnavailable in words. Does not
know: models.
"""

import torch

from makima_tts.errors import TtsUnavailable
from makima_tts.model import Precision

# Ampere, the first whose tensor cores multiply bf16.
_BF16_CAPABILITY = (8, 0)


def device_of(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; ``metal`` is mps. Raises TtsUnavailable for what is not there."""
    wanted = name.strip().lower()
    if wanted == "auto":
        return _best_device()
    try:
        device = torch.device("mps" if wanted == "metal" else wanted)
    except RuntimeError:
        raise TtsUnavailable(
            "TTS_DEVICE is not a device; set auto, cpu, cuda, cuda:N, mps or metal."
        ) from None
    if reason := _missing(device):
        raise TtsUnavailable(f"TTS_DEVICE={device} cannot be used: {reason} Set TTS_DEVICE=auto or cpu.")
    return device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """``auto``: bf16 where the hardware multiplies it as fast as it is narrow, fp32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if _fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _missing(device: torch.device) -> str | None:
    if device.type == "cuda":
        found = torch.cuda.device_count()
        return None if (device.index or 0) < found else f"torch finds {found} CUDA devices."
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else "torch finds no Metal device."
    return None if device.type == "cpu" else "this engine runs on CPUs, CUDA and Metal."


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    # AVX512-BF16 or AMX; without them bf16 is slower than fp32.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
