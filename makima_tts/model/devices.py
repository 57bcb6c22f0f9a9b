"""The device of a model and its precision; copies from the host to the device.

In: the operator's settings. Out: a torch device and a DevicePrecision, or TtsUnavailable in words. Does not
know: models.
"""

from dataclasses import dataclass
from typing import Literal

import structlog
import torch
from torch import Tensor

from makima_tts.errors import TtsUnavailable
from makima_tts.model import CpuPrecision, Precision
from makima_tts.model.native.compiler import PLAIN, instruction_sets, library

_log = structlog.get_logger(__name__)

# What CUDA calls it where torch does not: of memory that torch did not allocate itself.
_CUDA_OUT_OF_MEMORY = 2
# Ampere, the first whose tensor cores multiply bf16.
_BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True, slots=True)
class DevicePrecision:
    """``name``: of the precision. ``dtype``: of all that is not quantized.

    ``weight_bits``: of the transformers' weights, where they are quantized.
    """

    name: CpuPrecision
    dtype: torch.dtype
    weight_bits: int | None = None


def device_of(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; ``metal`` is mps. Raises TtsUnavailable for what is not there."""
    setting = name.strip().lower()
    if setting == "auto":
        return _best_device()
    try:
        device = torch.device("mps" if setting == "metal" else setting)
    except RuntimeError:
        raise TtsUnavailable(
            "TTS_DEVICE is not a device; set auto, cpu, cuda, cuda:N, mps or metal."
        ) from None
    if reason := _missing(device):
        raise TtsUnavailable(f"TTS_DEVICE={device} cannot be used: {reason} Set TTS_DEVICE=auto or cpu.")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def is_out_of_memory(error: Exception) -> bool:
    code = getattr(error, "error_code", None)
    return isinstance(error, torch.OutOfMemoryError) or code == _CUDA_OUT_OF_MEMORY


def settle(device: torch.device) -> None:
    """Makes it this thread's current CUDA device, and fp32 exact.

    Triton launches kernels on the current device, whatever device their tensors are on. And cuDNN would round
    the inputs of convolutions to ten bits: the codes of a voice would differ from those on a CPU.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
        torch.backends.cudnn.allow_tf32 = False


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a small tensor of the host; on CUDA it is queued, and the host does not wait."""
    return _pinned(tensor, device).to(device, non_blocking=True)


def copy_to_device(target: Tensor, tensor: Tensor) -> None:
    """As ``to_device``, but into ``target``: nothing is allocated."""
    target.copy_(_pinned(tensor, target.device), non_blocking=True)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy from memory that is not pinned makes the host wait for all that CUDA has queued."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def precision_on(device: torch.device, precision: Precision, cpu_precision: CpuPrecision) -> DevicePrecision:
    """``cpu_precision`` counts on a CPU, ``precision`` elsewhere.

    ``auto`` elsewhere: bf16 where the hardware multiplies it at full speed, else fp32. On a CPU:
    int8, whose errors are those of bf16 (docs/benchmarks.md), where its kernels are available, else as
    elsewhere. Raises TtsUnavailable for quantized weights where they are not.
    """
    if device.type != "cpu":
        return _plain(precision, device)
    match cpu_precision:
        case "int8" | "int4":
            library()
            return _quantized(cpu_precision)
        case "auto" if instruction_sets()[0] is not PLAIN:
            try:
                library()
            except TtsUnavailable as error:
                _log.warning("int8_unavailable", reason=error.message)
                return _plain("auto", device)
            return _quantized("int8")
        case _:
            return _plain(cpu_precision, device)


def _plain(precision: Precision, device: torch.device) -> DevicePrecision:
    name = ("bf16" if _fast_bf16(device) else "fp32") if precision == "auto" else precision
    return DevicePrecision(name, torch.bfloat16 if name == "bf16" else torch.float32)


def _quantized(precision: Literal["int8", "int4"]) -> DevicePrecision:
    return DevicePrecision(precision, torch.float32, 8 if precision == "int8" else 4)


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
