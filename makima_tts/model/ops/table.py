"""The table of leaf operations: one row for torch, one for C on CPUs, one for Triton on CUDA.

In: a device, the bits of quantized weights. Out: an Ops. Does not know: checkpoints, utterances.

Triton's and C's leaves are imported when they are selected: one needs the package triton, the other compiles.
"""

import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import structlog
import torch
from torch import Tensor

from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import finish, torch_codec_ops
from makima_tts.model.ops.torch import TorchLinear, TorchStack, torch_attention
from makima_tts.model.sampling import FirstCodebook, FrameSampler, SamplerState, TorchFrameSampler
from makima_tts.model.transformer import Attention, MakeStack

# Ampere: the first with asynchronous copies to shared memory.
_TRITON_CAPABILITY = (8, 0)
# Heads decide about codes and are a tenth of the weights: they never have fewer bits.
_HEAD_BITS = 8
FAMILIES = ("attention", "layers", "linear", "logits", "sampler", "codec", "finish")
_log = structlog.get_logger(__name__)

# float32 [B, F * samples], F and a sample rate in Hz → what leaves the codec, see ``finish`` in codec_ops.py.
Finish = Callable[[Tensor, int, int], tuple[Tensor, Tensor, Tensor]]


# Rows [B, …, inputs] → [B, …, outputs]; what a row comes to does not depend on the others.
Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Ops:
    """One leaf for each family of operations.

    ``attention``: over a static cache, of ``layers`` in Triton; the others attend in their own way.
    ``layers``: all layers of a transformer. ``linear``: packs a weight [outputs, inputs] and a bias → rows to
    rows. ``logits``: likewise for weights that make logits, whose result may have more bits than its rows.
    ``codec``: loads the codec's decoder. ``implementations``: torch, native, triton or flash_attn, by family.
    """

    implementations: Mapping[str, str]
    attention: Attention
    layers: MakeStack
    linear: Callable[[Tensor, Tensor | None], Linear]
    logits: Callable[[Tensor], Linear]
    sampler: Callable[[FirstCodebook, SamplerState, Tensor], FrameSampler]
    codec: Callable[[CodecDecoderConfig, Weights], CodecDecoder]
    finish: Finish


def ops_for(device: torch.device, weight_bits: int | None = None) -> Ops:
    """``weight_bits`` 8 or 4: C's, on a CPU. Triton's where they run; a CUDA device without them is logged.

    Raises TtsUnavailable where C's cannot be had.
    """
    if weight_bits is not None:
        return native_ops(weight_bits)
    lacking = kernels_lack(device)
    if lacking is None:
        return triton_ops()
    if device.type == "cuda":
        _log.warning("gpu_kernels_unavailable", lacking=lacking)
    return torch_ops()


def kernels_lack(device: torch.device) -> str | None:
    """What Triton's leaves miss; None where they run. Without them torch computes, in more launches."""
    if device.type != "cuda" or torch.version.cuda is None:
        return "a CUDA device"
    if torch.cuda.get_device_capability(device) < _TRITON_CAPABILITY:
        return "a card from Ampere on (compute capability 8.0)"
    if find_spec("triton") is None:
        return "the package triton, which torch for CUDA brings along on Linux"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler, with which Triton builds what launches a kernel: install gcc, or set CC"
    if not Path(sysconfig.get_path("include", _scheme()), "Python.h").exists():
        return "Python's headers, which Triton's launcher includes: install python3-dev"
    return None


def _scheme() -> str:
    """The scheme that Triton uses: Debian's own for local installations has no headers."""
    scheme = sysconfig.get_default_scheme()
    return "posix_prefix" if scheme == "posix_local" else scheme


def torch_ops() -> Ops:
    """On any device."""
    return Ops(
        implementations=dict.fromkeys(FAMILIES, "torch"),
        attention=torch_attention,
        layers=TorchStack,
        linear=TorchLinear,
        logits=TorchLinear,
        sampler=TorchFrameSampler,
        codec=partial(CodecDecoder.load, ops=torch_codec_ops()),
        finish=finish,
    )


def native_ops(bits: int) -> Ops:
    # It compiles, the first time.
    from makima_tts.model.native.kernels import NativeStack, QuantizedLinear, native_codec_ops  # noqa: PLC0415

    return Ops(
        implementations={**dict.fromkeys(FAMILIES, "native"), "sampler": "torch", "finish": "torch"},
        attention=torch_attention,
        layers=partial(NativeStack, bits=bits),
        linear=lambda weight, bias: QuantizedLinear.pack(weight, _HEAD_BITS, bias),
        logits=lambda weight: QuantizedLinear.pack(weight, _HEAD_BITS),
        sampler=TorchFrameSampler,
        codec=partial(CodecDecoder.load, ops=native_codec_ops()),
        finish=finish,
    )


def triton_ops(attention: Attention | None = None, by: str = "triton") -> Ops:
    """``attention``: that of Triton if None, else one that ``by`` names."""
    from makima_tts.model.triton import codec  # noqa: PLC0415 - needs Triton
    from makima_tts.model.triton.attention import triton_attention  # noqa: PLC0415
    from makima_tts.model.triton.linear import TritonLinear  # noqa: PLC0415
    from makima_tts.model.triton.sampler import TritonFrameSampler  # noqa: PLC0415
    from makima_tts.model.triton.transformer import TritonStack  # noqa: PLC0415

    attention = attention or triton_attention
    return Ops(
        implementations={**dict.fromkeys(FAMILIES, "triton"), "attention": by},
        attention=attention,
        layers=partial(TritonStack, attention=attention, looks_to_limit=by == "torch"),
        linear=TritonLinear,
        logits=lambda weight: TritonLinear(weight, wide=True),
        sampler=TritonFrameSampler,
        # For every decoder its own: each leaf is told what follows it.
        codec=lambda config, weights: CodecDecoder.load(config, weights, codec.triton_codec_ops()),
        finish=codec.finish,
    )
