"""Encoded voices on disk, so that a restart encodes nothing.

In: prompts and their keys. Out: the same, as long as the files are whole. Does not know: voices' ids, when
anything is encoded.

A key is a digest over everything that a prompt depends on, so nothing here ever goes out of date. The
folder may be deleted at any time, and may be impossible to write: then prompts are kept in memory only.
"""

import hashlib
import os
import secrets
import threading
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import structlog
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from makima_tts.speech import VoicePrompt

MAX_BYTES = 2 * 1024**3

_SUFFIX = ".safetensors"
_FINGERPRINT = "fingerprint"
# The last two for numbers that numpy has no type for: bfloat16, 8 bits and fewer.
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, AttributeError)
_log = structlog.get_logger(__name__)


def prompt_key(clip: BufferedIOBase, *dependencies: str | None) -> str:
    """sha256 over the clip's bytes and whatever else the prompt depends on. Leaves ``clip`` at its start."""
    digest = hashlib.sha256(hashlib.file_digest(clip, "sha256").digest())
    clip.seek(0)
    for part in dependencies:
        # With its length, so that no two lists of parts run together into one.
        encoded = b"-" if part is None else b"+" + part.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.hexdigest()


class PromptStore:
    """Blocks; may be called from any thread. ``max_bytes``: of files; the longest unused go first."""

    def __init__(self, cache_dir: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = cache_dir / "voices"
        self._max_bytes = max_bytes
        self._warned = False
        # One writes at a time, so that what is unfinished while nobody writes is a leftover.
        self._writing = threading.Lock()

    def load(self, key: str, fingerprint: str) -> VoicePrompt | None:
        """None when there is none, or none that can be read: then it is encoded anew and overwritten."""
        path = self._path(key)
        try:
            prompt = _read(path)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            _log.warning("voice_cache_file_unreadable", file=path.name, error=type(error).__name__)
            return None
        with suppress(OSError):
            os.utime(path)
        return prompt if prompt.fingerprint == fingerprint else None

    def save(self, key: str, prompt: VoicePrompt) -> None:
        """Whole or not at all. A folder that cannot be written is said once, and is no failure."""
        try:
            with self._writing:
                self._write(key, prompt)
                self._prune()
        except OSError as error:
            if not self._warned:
                _log.warning("voice_cache_not_writable", reason=error.strerror, kept="in memory only")
            self._warned = True

    def discard(self, key: str) -> None:
        with self._writing, suppress(OSError):
            self._path(key).unlink()

    def sweep(self) -> None:
        """Remove what a process that died left half written."""
        with self._writing:
            for leftover in self._folder.glob(".*"):
                with suppress(OSError):
                    leftover.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _write(self, key: str, prompt: VoicePrompt) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f".{secrets.token_hex(8)}"
        tensors = {name: np.asarray(tensor, order="C") for name, tensor in prompt.tensors.items()}
        try:
            unfinished.write_bytes(save(tensors, {_FINGERPRINT: prompt.fingerprint}))
            unfinished.replace(self._path(key))
        finally:
            unfinished.unlink(missing_ok=True)

    def _prune(self) -> None:
        files = [(path, path.stat()) for path in self._folder.glob(f"*{_SUFFIX}")]
        excess_bytes = sum(status.st_size for _, status in files) - self._max_bytes
        for path, status in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if excess_bytes <= 0:
                return
            path.unlink(missing_ok=True)
            excess_bytes -= status.st_size


def _read(path: Path) -> VoicePrompt:
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return VoicePrompt((file.metadata() or {})[_FINGERPRINT], tensors)
