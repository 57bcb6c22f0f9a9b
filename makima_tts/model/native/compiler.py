"""Compiles the C sources for this machine's instructions, once, and loads the library.

In: the sources beside this module, the machine's instructions, a C compiler. Out: a loaded library, or
TtsUnavailable in words. Does not know: what the functions in it do.

A library that was built ahead (``python -m makima_tts.model.native FOLDER``, for images without a compiler)
is looked for beside the sources; otherwise it is compiled into the user's cache, in some seconds. Its
name is a digest of sources and flags, so that new sources are never used with an old library.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog
import torch

from makima_tts.errors import TtsUnavailable

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
BUILT = Path(__file__).with_name("built")

_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-Wno-psabi")
_LIBRARIES = ("-lm", "-lpthread")
_TIMEOUT_S = 120
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """Instructions that a library is compiled for."""

    name: str
    flags: tuple[str, ...]

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(repr((_FLAGS, self.flags, platform.machine())).encode())
        for source in SOURCES:
            digest.update(source.read_bytes())
        return f"kernels-{self.name}-{digest.hexdigest()[:16]}.so"


PLAIN = InstructionSet("plain", ())
AVX2 = InstructionSet("avx2", ("-march=x86-64-v3",))
AVX512_VNNI = InstructionSet("avx512-vnni", ("-march=x86-64-v4", "-mavx512vnni"))


def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those of this machine, the fastest first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return (PLAIN,)
    if torch.cpu._is_avx512_supported() and torch.cpu._is_vnni_supported():
        return (AVX512_VNNI, AVX2, PLAIN)
    return (AVX2, PLAIN) if torch.backends.cpu.get_cpu_capability().startswith("AVX") else (PLAIN,)


@cache
def library() -> ctypes.CDLL:
    """Raises TtsUnavailable where there is neither a library for this machine nor a compiler."""
    target = instruction_sets()[0]
    if (BUILT / target.file_name).exists():  # part of the package, and trusted like it
        return _load(BUILT / target.file_name)
    try:
        folder = cache_folder()
        if not (folder / target.file_name).exists():
            build(target, folder)
            _log.info("kernels_compiled", instructions=target.name)
    except OSError as error:
        raise TtsUnavailable(
            f"The compiled kernels cannot be stored: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that can be written to."
        ) from error
    return _load(folder / target.file_name)


def build(target: InstructionSet, folder: Path) -> Path:
    """Compile into ``folder``, which must be there. Raises TtsUnavailable without a compiler, OSError."""
    compiler = _compiler()
    sources = [str(source) for source in SOURCES if source.suffix == ".c"]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        library_file = Path(scratch) / "library.so"
        command = [compiler, *_FLAGS, *target.flags, "-o", str(library_file), *sources, *_LIBRARIES]
        if (complaint := _compile(command)) is not None:
            raise TtsUnavailable(f"{Path(compiler).name} could not compile the kernels: {complaint}")
        library_file.chmod(0o755)
        return library_file.replace(folder / target.file_name)


def _compile(command: list[str]) -> str | None:
    """Runs the compiler; returns the first line of its error message, if it fails."""
    try:
        ran = subprocess.run(  # noqa: S603 - our own source, and the operator's compiler
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "it took too long"
    return None if ran.returncode == 0 else next(iter(ran.stderr.splitlines()), "it gave no reason")


def _compiler() -> str:
    named = os.environ.get("CC", "")
    for name in (named, "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise TtsUnavailable(
        "int8 and int4 on a CPU need a C compiler once; install one (Debian: apt install gcc libc6-dev), "
        "or set TTS_CPU_PRECISION=fp32."
    )


def cache_folder() -> Path:
    """Created if it is not there. No other user may write to it: its libraries run in this process.

    Raises OSError, TtsUnavailable.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # a user without a home
        raise TtsUnavailable("There is no folder for the compiled kernels: set XDG_CACHE_HOME.") from None
    folder = base / "makima-tts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise TtsUnavailable(
            f"Other users can write to {folder}, so no kernels are kept there: make it private "
            "(chmod 700), or set XDG_CACHE_HOME to another folder."
        )
    return folder


def _load(library_file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library_file), mode=os.RTLD_NOW)
    except OSError as error:
        raise TtsUnavailable(
            f"The compiled kernels cannot be loaded from {library_file.parent}; "
            "delete them there, and they are compiled again."
        ) from error
