"""Whether the Triton kernels can run on a device. Importing this module does not import Triton."""

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch

# Ampere: the first with asynchronous copies to shared memory.
_CAPABILITY = (8, 0)


def kernels_lack(device: torch.device) -> str | None:
    """What is missing; None where they run. Without them torch computes, in more launches."""
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
    """The scheme that Triton uses: Debian's own for local installations has no headers."""
    scheme = sysconfig.get_default_scheme()
    return "posix_prefix" if scheme == "posix_local" else scheme
