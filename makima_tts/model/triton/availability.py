"""Whether the kernels for GPUs can run somewhere.

In: a device. Out: why not, in words; or nothing. Does not know: what they compute. It is imported without
Triton.
"""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch

# Ampere, the first that copies to shared memory while it multiplies, as the kernels do.
_CAPABILITY = (8, 0)


def kernels_lack(device: torch.device) -> str | None:
    """What there is not; None where they run. Without them torch computes, in more launches."""
    if device.type != "cuda" or torch.version.cuda is None:
        return "a CUDA device"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return "a card from Ampere on (compute capability 8.0)"
    if find_spec("triton") is None:
        return "the package triton, which torch for CUDA brings along on Linux"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler, with which Triton builds what launches a kernel: install gcc, or set CC"
    if not Path(sysconfig.get_path("include", _scheme()), "Python.h").exists():
        return "Python's headers, which Triton's launcher includes: install python3-dev"
    return None


def _scheme() -> str:
    """Where Triton looks: Debian's own scheme for what is installed locally has no headers."""
    scheme = sysconfig.get_default_scheme()
    return "posix_prefix" if scheme == "posix_local" else scheme
