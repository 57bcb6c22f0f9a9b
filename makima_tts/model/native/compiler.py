"""Turns the C source into a library that fits this machine, once, and loads it.

In: the sources beside this module, the machine's instructions, a C compiler. Out: a loaded library, or
TtsUnavailable in words. Does not know: what the functions in it do.

A library that was built ahead (``python -m makima_tts.model.native FOLDER`` does it, for images without a
compiler) is looked for beside the source; otherwise it is compiled into the user's cache, which takes some
seconds. Its name is a digest of all that it was made of, so new sources never meet an old library.
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
class Level:
    """Instructions that a library is compiled for."""

    name: str
    flags: tuple[str, ...]

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(repr((_FLAGS, self.flags, platform.machine())).encode())
        for source in SOURCES:
            digest.update(source.read_bytes())
        return f"kernels-{self.name}-{digest.hexdigest()[:16]}.so"


PLAIN = Level("plain", ())
AVX2 = Level("avx2", ("-march=x86-64-v3",))
AVX512_VNNI = Level("avx512-vnni", ("-march=x86-64-v4", "-mavx512vnni"))


def levels() -> tuple[Level, ...]:
    """What this machine can run, the fastest first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return (PLAIN,)
    able = torch.backends.cpu.get_cpu_capability()
    if torch.cpu._is_avx512_supported() and torch.cpu._is_vnni_supported():
        return (AVX512_VNNI, AVX2, PLAIN)
    return (AVX2, PLAIN) if able.startswith("AVX") else (PLAIN,)


@cache
def library() -> ctypes.CDLL:
    """Raises TtsUnavailable where there is neither a library for this machine nor a compiler."""
    level = levels()[0]
    if (BUILT / level.file_name).exists():  # part of the package, and trusted like it
        return _load(BUILT / level.file_name)
    try:
        folder = _cache_folder()
        if not (folder / level.file_name).exists():
            build(level, folder)
            _log.info("kernels_compiled", instructions=level.name)
    except OSError as error:
        raise TtsUnavailable(
            f"The compiled kernels cannot be kept: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that can be written to."
        ) from error
    return _load(folder / level.file_name)


def build(level: Level, folder: Path) -> Path:
    """Compile into ``folder``, which must be there. Raises TtsUnavailable without a compiler, OSError."""
    compiler = _compiler()
    sources = [str(source) for source in SOURCES if source.suffix == ".c"]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "made.so"
        command = [compiler, *_FLAGS, *level.flags, "-o", str(made), *sources, *_LIBRARIES]
        if (complaint := _complaint_of(command)) is not None:
            raise TtsUnavailable(f"{Path(compiler).name} could not compile the kernels: {complaint}")
        made.chmod(0o755)
        return made.replace(folder / level.file_name)


def _complaint_of(command: list[str]) -> str | None:
    """Runs it; the first line of what it says went wrong, if something did."""
    try:
        ran = subprocess.run(  # noqa: S603 - our own source, and the operator's compiler
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "it took too long"
    return None if ran.returncode == 0 else next(iter(ran.stderr.splitlines()), "it does not say why")


def _compiler() -> str:
    named = os.environ.get("CC", "")
    for name in (named, "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise TtsUnavailable(
        "int8 and int4 on a CPU need a C compiler once; install one (Debian: apt install gcc libc6-dev), "
        "or set TTS_CPU_PRECISION=fp32."
    )


def _cache_folder() -> Path:
    """Made if it is not there; nobody else can write to it, since what lies in it runs as we do.

    Raises OSError, TtsUnavailable.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # a user without a home
        raise TtsUnavailable("There is no place to keep the compiled kernels: set XDG_CACHE_HOME.") from None
    folder = base / "makima-tts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise TtsUnavailable(
            f"Others can write to {folder}, so that no kernels are kept there: make it yours alone "
            "(chmod 700), or set XDG_CACHE_HOME to another folder."
        )
    return folder


def _load(library_file: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library_file), mode=os.RTLD_NOW)
    except OSError as error:
        raise TtsUnavailable(
            f"The compiled kernels cannot be loaded from {library_file.parent}; "
            "delete them there, and they are compiled anew."
        ) from error
