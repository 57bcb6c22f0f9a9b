"""Downloads a checkpoint from the Hugging Face hub.

In: a model's id or folder, a revision. Out: its folder, every file checked against the hub's digest; or
TtsUnavailable with what to do. Does not know: settings, the terminal, the files' contents.

Files go one after the other into the cache of huggingface_hub, by its ``http_get``. Its snapshot_download is
not used, since that discards a partial file, and one file is most of a checkpoint: here a download resumes,
also in another process. Only configuration, vocabulary and safetensors files are fetched: other formats can
run code.

Error messages repeat nothing from huggingface_hub or the system: their texts hold paths and signed addresses.
"""

import errno
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from makima_tts.errors import TtsError, TtsUnavailable
from makima_tts.hub.cache import (
    blob_path,
    find_on_disk,
    hub_cache,
    is_folder,
    lock_path,
    missing_files,
    ref_path,
    snapshot_path,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Report = Callable[[str, float], None]

_NEEDS_CLIENT = "Downloading needs the package huggingface_hub: pip install 'makima-tts[qwen3]'."
_OFFLINE = (
    "The checkpoint that TTS_MODEL_ID and TTS_MODEL_REVISION name is not on this machine's disk, at least "
    "not all of it, and TTS_OFFLINE forbids downloading. Run `makima-tts download` where there is a network, "
    "or set TTS_MODEL_ID to a folder with the checkpoint."
)
_GATED = (
    "Hugging Face gives that model only to those who accepted its terms: accept them on the model's page, "
    "and log in here (`hf auth login`) or set HF_TOKEN."
)
_NO_REVISION = "Hugging Face has that model, but not that revision of it; check TTS_MODEL_REVISION."
_NO_MODEL = (
    "Hugging Face knows no model of that name; or it is private, and wants a login (`hf auth login`) or "
    "HF_TOKEN. Check TTS_MODEL_ID."
)
_NO_NAME = "TTS_MODEL_ID is neither a folder with a config.json nor a name such as owner/model."
_HUB_OFFLINE = (
    "The checkpoint is not on this machine's disk, at least not all of it, and HF_HUB_OFFLINE forbids "
    "downloading. Unset it, or set TTS_MODEL_ID to a folder with the checkpoint."
)
_REFUSED = (
    "Hugging Face refuses the login that was sent; log in again (`hf auth login`), or set HF_TOKEN to a "
    "token that may read the model."
)
_NO_ROOM = (
    "The disk is full. What arrived is kept: make room and download again, or set HF_HOME to a folder on "
    "another disk."
)
_NOT_WRITABLE = "The folder for models cannot be written to ({kind}); set HF_HOME to one that can."
_BUSY = "Hugging Face answers too many requests; wait some minutes and download again. What arrived is kept."
_BROKEN = "Hugging Face has trouble (HTTP {status}); download again later. What arrived is kept."
_UNREACHABLE = (
    "The Hugging Face hub cannot be reached, or the connection broke off ({kind}). Check the network, a "
    "proxy, HF_ENDPOINT, and download again: what arrived is kept."
)
_NO_HUB = "What answers instead of the Hugging Face hub does not speak as one; check HF_ENDPOINT."
_SUFFIXES = {".json", ".txt", ".safetensors"}
_FOLDERS = {".", "speech_tokenizer"}
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_API_TIMEOUT_S = 30.0


def find_or_download(model_id: str, *, revision: str | None, offline: bool, report: Report) -> Path:
    """The checkpoint's folder; uses the network only if it is not complete on the disk.

    ``report`` gets a short description and the share that has arrived, 0…1, never falling. An exception from
    it aborts the download, as an interrupt does; the next one resumes. Raises TtsUnavailable.
    """
    found = find_on_disk(model_id, revision)
    if found is None and offline:
        raise TtsUnavailable(_OFFLINE)
    return found or download(model_id, revision=revision, report=report)


def download(model_id: str, *, revision: str | None, report: Report) -> Path:
    """The revision as the hub has it now; complete files on the disk are kept.

    A folder is returned unchecked. ``report`` and errors as in find_or_download.
    """
    if is_folder(model_id):
        return Path(model_id)
    if find_spec("huggingface_hub") is None:
        raise TtsUnavailable(_NEEDS_CLIENT)
    with _sentences():
        return _Download(model_id, revision, report).run()


@dataclass(frozen=True, slots=True)
class _File:
    """``digest``: SHA-256 of a large file; git's SHA-1 of a small one (its length is hashed too)."""

    name: str
    size: int
    digest: str

    @classmethod
    def of(cls, sibling: "RepoSibling") -> "_File":
        """Raises TtsUnavailable when the hub's answer lacks a field, or the digest is not one."""
        size = sibling.lfs.size if sibling.lfs else sibling.size
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if size is None or digest is None or not _DIGEST.fullmatch(digest):
            raise TtsUnavailable(_NO_HUB)
        return cls(sibling.rfilename, size, digest)

    def is_complete(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, self._new_hash).hexdigest() == self.digest

    def _new_hash(self) -> Any:
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


class _Download:
    """Of one commit's files, small ones first: weights are the last to complete a snapshot."""

    def __init__(self, model_id: str, revision: str | None, report: Report) -> None:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415

        self._model_id = model_id
        self._revision = revision
        self._endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        # A compressed response could be neither counted nor resumed.
        self._headers = build_hf_headers(library_name="makima-tts", headers={"Accept-Encoding": "identity"})
        self._report = report
        self._done_bytes = self._total_bytes = 0
        self._share = 0.0

    def run(self) -> Path:
        self._describe("asking the Hugging Face hub")
        commit, files = self._list_files()
        self._total_bytes = sum(file.size for file in files)
        self._require_space(files)
        for file in files:
            self._complete(file, commit)
            self._done_bytes += file.size
            self._advance_to(self._done_bytes)
        self._write_ref(commit)
        return snapshot_path(self._model_id, commit)

    def _list_files(self) -> tuple[str, list[_File]]:
        from huggingface_hub import HfApi  # noqa: PLC0415

        api = HfApi(endpoint=self._endpoint)
        try:
            found = api.model_info(
                self._model_id, revision=self._revision, files_metadata=True, timeout=_API_TIMEOUT_S
            )
        except (KeyError, TypeError, AttributeError):
            raise TtsUnavailable(_NO_HUB) from None
        siblings = [sibling for sibling in found.siblings or () if _is_fetched(sibling.rfilename)]
        if missing := missing_files(sibling.rfilename for sibling in siblings):
            raise TtsUnavailable(
                f"That model is no Qwen3-TTS checkpoint: it has no {missing[0]}. Set TTS_MODEL_ID, such as "
                "Qwen/Qwen3-TTS-12Hz-0.6B-Base."
            )
        if found.sha is None or not _DIGEST.fullmatch(found.sha):
            raise TtsUnavailable(_NO_HUB)
        return found.sha, sorted(map(_File.of, siblings), key=lambda file: file.size)

    def _require_space(self, files: list[_File]) -> None:
        """Before gigabytes are downloaded in vain. Raises TtsUnavailable."""
        needed = sum(file.size - self._size_on_disk(file) for file in files)
        cache = hub_cache()
        existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if needed > free:
            raise TtsUnavailable(
                f"The checkpoint wants {_amount(needed)} more on the disk, and {_amount(free)} are free. "
                "Make room, or set HF_HOME to a folder on another disk."
            )

    def _size_on_disk(self, file: _File) -> int:
        blob = blob_path(self._model_id, file.digest)
        sizes = [path.stat().st_size for path in (blob, _incomplete(blob)) if path.is_file()]
        return min(file.size, max(sizes, default=0))

    def _complete(self, file: _File, commit: str) -> None:
        """Downloads the file unless it is there, and links to it from the snapshot."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # noqa: PLC0415

        blob = blob_path(self._model_id, file.digest)
        link = snapshot_path(self._model_id, commit) / file.name
        lock = lock_path(self._model_id, file.digest)
        for path in (blob, link, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if self._is_complete(file, link):
                return
            if not self._is_complete(file, blob):
                self._fetch(file, blob, commit)
            _link(link, blob)

    def _fetch(self, file: _File, blob: Path, commit: str) -> None:
        from huggingface_hub import hf_hub_url  # noqa: PLC0415
        from huggingface_hub.file_download import http_get  # noqa: PLC0415
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # noqa: PLC0415

        disable_progress_bars("huggingface_hub.http_get")
        incomplete = _incomplete(blob)
        url = hf_hub_url(self._model_id, file.name, revision=commit, endpoint=self._endpoint)
        with _PartialFile(incomplete, self._on_written) as out:
            self._on_written(out.tell())  # the first bytes may be minutes away
            if out.tell() < file.size:
                http_get(url, out, resume_size=out.tell(), headers=self._headers)
        if not self._is_complete(file, incomplete):
            incomplete.unlink()
            raise TtsUnavailable(
                f"{file.name} arrived damaged: its digest is not the one that the hub gives. What arrived "
                "was deleted; download it again."
            )
        incomplete.replace(blob)

    def _is_complete(self, file: _File, path: Path) -> bool:
        if path.is_file():
            self._describe(f"checking {file.name}")
        return file.is_complete(path)

    def _on_written(self, bytes_of_file: int) -> None:
        arrived_bytes = self._done_bytes + bytes_of_file
        self._advance_to(arrived_bytes)
        self._describe(f"downloading {_progress(arrived_bytes, self._total_bytes)}")

    def _advance_to(self, arrived_bytes: int) -> None:
        self._share = max(self._share, min(1.0, arrived_bytes / self._total_bytes))

    def _describe(self, description: str) -> None:
        self._report(description, self._share)

    def _write_ref(self, commit: str) -> None:
        """Written last: until all files have arrived, a branch or tag means its previous commit."""
        if self._revision == commit:
            return
        ref = ref_path(self._model_id, self._revision)
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.new")
        new.write_text(commit)
        new.replace(ref)


class _PartialFile(io.FileIO):
    """Appends to an incomplete download. ``on_written`` gets its length after each write."""

    def __init__(self, path: Path, on_written: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._on_written = on_written

    def write(self, chunk: Any, /) -> int:
        """Writes all of it, or raises OSError: a disk that fills up writes less at first, and fails then."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[super().write(rest) :]
        self._on_written(self.tell())
        return len(chunk)


def _is_fetched(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in _SUFFIXES and str(path.parent) in _FOLDERS and "\\" not in name


def _incomplete(blob: Path) -> Path:
    """Named as huggingface_hub names it, so that tools that clean the cache recognise it."""
    return blob.with_name(f"{blob.name}.incomplete")


def _link(link: Path, blob: Path) -> None:
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        # Windows allows few users to create links; huggingface_hub moves the file there, too.
        blob.replace(link)


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _progress(arrived_bytes: int, total_bytes: int) -> str:
    """``1.2 of 2.5 GB``."""
    unit = 1e9 if total_bytes >= 1e9 else 1e6
    return f"{arrived_bytes / unit:.1f} of {_amount(total_bytes)}"


@contextmanager
def _sentences() -> Iterator[None]:
    """Raises TtsUnavailable for errors of huggingface_hub and of the disk."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    # Its HTTP client differs by version; its own error derives from that client's.
    transport = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    failures: tuple[type[Exception], ...] = (*transport, OSError, ValueError)
    try:
        yield
    except TtsError:
        raise
    except failures as error:
        raise TtsUnavailable(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    # Subclasses first: GatedRepoError is a RepositoryNotFoundError, and both are HfHubHTTPErrors.
    by_class = {
        errors.GatedRepoError: _GATED,
        errors.RevisionNotFoundError: _NO_REVISION,
        errors.RepositoryNotFoundError: _NO_MODEL,
        errors.HFValidationError: _NO_NAME,
        errors.OfflineModeIsEnabled: _HUB_OFFLINE,
    }
    for error_class, sentence in by_class.items():
        if isinstance(error, error_class):
            return sentence
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error.response.status_code)
    return _of_disk_or_network(error)


def _refusal(status: int) -> str:
    if status in {401, 403}:
        return _REFUSED
    return _BUSY if status == 429 else _BROKEN.format(status=status)


def _of_disk_or_network(error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, ValueError):
        return _NO_HUB
    # The HTTP client wraps the errors of its sockets, so an error number comes from the disk.
    number = error.errno if isinstance(error, OSError) else None
    if number is None or isinstance(error, ConnectionError | TimeoutError):
        return _UNREACHABLE.format(kind=kind)
    return _NO_ROOM if number in {errno.ENOSPC, errno.EDQUOT} else _NOT_WRITABLE.format(kind=kind)
