"""A checkpoint comes from the Hugging Face hub onto the disk.

In: a model's id or folder, a revision. Out: the folder it lies in, every file checked against the digest that
the hub gives. Does not know: settings, the terminal, what is in the files.

Files are fetched by the hub's own client, one after the other, into the cache that it uses; but not by its
snapshot_download, which throws away what it has of a file that breaks off, and one file is most of a
checkpoint. Here a file goes on where it broke off, also in another process, and is not given its name before
its digest was compared. Only configuration, vocabulary and safetensors files are taken: other formats can
run code.
"""

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from makima_tts.errors import TtsUnavailable
from makima_tts.hub.cache import CachedModel, find_on_disk, hub_cache, is_folder, lacking
from makima_tts.hub.failures import NO_HUB, in_words

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

__all__ = ["Report", "download", "find_on_disk", "find_or_download"]

Report = Callable[[str, float], None]

_NEEDS_CLIENT = "Downloading needs the package huggingface_hub: pip install 'makima-tts[qwen3]'."
_OFFLINE = (
    "The checkpoint that TTS_MODEL_ID and TTS_MODEL_REVISION name is not on this machine's disk, at least "
    "not all of it, and TTS_OFFLINE forbids downloading. Run `makima-tts download` where there is a network, "
    "or set TTS_MODEL_ID to a folder with the checkpoint."
)
_TAKEN = {".json", ".txt", ".safetensors"}
_FOLDERS = {".", "speech_tokenizer"}
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256_DIGITS = 64
_ANSWER_WITHIN_S = 30.0


def find_or_download(model_id: str, *, revision: str | None, offline: bool, report: Report) -> Path:
    """The checkpoint's folder; asks the network only if it is not whole on the disk.

    ``report`` hears a few words and the share that has arrived, 0…1, never falling. What it raises ends the
    download, as an interrupt does; the next one goes on from there. Raises TtsUnavailable, in words.
    """
    found = find_on_disk(model_id, revision)
    if found is None and offline:
        raise TtsUnavailable(_OFFLINE)
    return found or download(model_id, revision=revision, report=report)


def download(model_id: str, *, revision: str | None, report: Report) -> Path:
    """As the hub has it now: what is on the disk is compared with it and kept if it is whole.

    A folder is returned as it is. ``report`` and errors as of find_or_download.
    """
    if is_folder(model_id):
        return Path(model_id)
    if find_spec("huggingface_hub") is None:
        raise TtsUnavailable(_NEEDS_CLIENT)
    with in_words():
        return _Download(model_id, revision, report).run()


@dataclass(frozen=True, slots=True)
class _File:
    """``digest``: SHA-256 of a large file; of a small one SHA-1 as git reckons it, length included."""

    name: str
    size: int
    digest: str

    @classmethod
    def of(cls, sibling: "RepoSibling") -> "_File":
        """Raises TtsUnavailable when the answer lacks something, or would be no name of a file."""
        size = sibling.lfs.size if sibling.lfs else sibling.size
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if size is None or digest is None or not _DIGEST.fullmatch(digest):
            raise TtsUnavailable(NO_HUB)
        return cls(sibling.rfilename, size, digest)

    def is_whole(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, self._start).hexdigest() == self.digest

    def _start(self) -> Any:
        if len(self.digest) == _SHA256_DIGITS:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


class _Download:
    """Of one commit's files, the small ones first: the weights are the last that a snapshot lacks."""

    def __init__(self, model_id: str, revision: str | None, report: Report) -> None:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415

        self._model = CachedModel(model_id)
        self._revision = revision
        self._endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
        # Packed, what arrives could not be counted, nor gone on with.
        self._headers = build_hf_headers(library_name="makima-tts", headers={"Accept-Encoding": "identity"})
        self._report = report
        self._done = self._total = 0
        self._share = 0.0

    def run(self) -> Path:
        self._tell("asking the Hugging Face hub")
        commit, files = self._ask()
        self._total = sum(file.size for file in files)
        self._demand_room(files)
        for file in files:
            self._settle(file, commit)
            self._done += file.size
            self._rise_to(self._done)
        self._remember(commit)
        return self._model.snapshot(commit)

    def _ask(self) -> tuple[str, list[_File]]:
        from huggingface_hub import HfApi  # noqa: PLC0415

        api = HfApi(endpoint=self._endpoint)
        try:
            found = api.model_info(
                self._model.model_id, revision=self._revision, files_metadata=True, timeout=_ANSWER_WITHIN_S
            )
        except (KeyError, TypeError, AttributeError):
            raise TtsUnavailable(NO_HUB) from None
        siblings = [sibling for sibling in found.siblings or () if _is_taken(sibling.rfilename)]
        if missing := lacking(sibling.rfilename for sibling in siblings):
            raise TtsUnavailable(
                f"That model is no Qwen3-TTS checkpoint: it has no {missing[0]}. Set TTS_MODEL_ID, such as "
                "Qwen/Qwen3-TTS-12Hz-0.6B-Base."
            )
        if found.sha is None or not _DIGEST.fullmatch(found.sha):
            raise TtsUnavailable(NO_HUB)
        return found.sha, sorted(map(_File.of, siblings), key=lambda file: file.size)

    def _demand_room(self, files: list[_File]) -> None:
        """Before gigabytes are fetched that cannot be kept. Raises TtsUnavailable."""
        wanted = sum(file.size - self._size_on_disk(file) for file in files)
        cache = hub_cache()
        existing = next(place for place in (cache, *cache.absolute().parents) if place.exists())
        free = shutil.disk_usage(existing).free
        if wanted > free:
            raise TtsUnavailable(
                f"The checkpoint wants {_amount(wanted)} more on the disk, and {_amount(free)} are free. "
                "Make room, or set HF_HOME to a folder on another disk."
            )

    def _size_on_disk(self, file: _File) -> int:
        blob = self._model.blob(file.digest)
        sizes = [path.stat().st_size for path in (blob, _part_of(blob)) if path.is_file()]
        return min(file.size, max(sizes, default=0))

    def _settle(self, file: _File, commit: str) -> None:
        """Fetched unless it is there, and linked to from the snapshot."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # noqa: PLC0415

        blob, named = self._model.blob(file.digest), self._model.snapshot(commit) / file.name
        lock = self._model.lock(file.digest)
        for path in (blob, named, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if self._is_whole(file, named):
                return
            if not self._is_whole(file, blob):
                self._fetch(file, blob, commit)
            _link(named, blob)

    def _fetch(self, file: _File, blob: Path, commit: str) -> None:
        from huggingface_hub import hf_hub_url  # noqa: PLC0415
        from huggingface_hub.file_download import http_get  # noqa: PLC0415
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # noqa: PLC0415

        disable_progress_bars("huggingface_hub.http_get")
        part = _part_of(blob)
        url = hf_hub_url(self._model.model_id, file.name, revision=commit, endpoint=self._endpoint)
        with _Part(part, self._arrived) as out:
            self._arrived(out.tell())  # the first piece may be minutes away
            if out.tell() < file.size:
                http_get(url, out, resume_size=out.tell(), headers=self._headers)
        if not self._is_whole(file, part):
            part.unlink()
            raise TtsUnavailable(
                f"{file.name} arrived damaged: its digest is not the one that the hub gives. What arrived "
                "was deleted; download it again."
            )
        part.replace(blob)

    def _is_whole(self, file: _File, path: Path) -> bool:
        if path.is_file():
            self._tell(f"checking {file.name}")
        return file.is_whole(path)

    def _arrived(self, of_this_file: int) -> None:
        arrived = self._done + of_this_file
        self._rise_to(arrived)
        self._tell(f"downloading {_of(arrived, self._total)}")

    def _rise_to(self, arrived: int) -> None:
        self._share = max(self._share, min(1.0, arrived / self._total))

    def _tell(self, words: str) -> None:
        self._report(words, self._share)

    def _remember(self, commit: str) -> None:
        """What the branch or tag was, last: until everything has arrived, the commit before it stands."""
        if self._revision == commit:
            return
        reference = self._model.reference(self._revision)
        reference.parent.mkdir(parents=True, exist_ok=True)
        new = reference.with_name(f"{reference.name}.new")
        new.write_text(commit)
        new.replace(reference)


class _Part(io.FileIO):
    """What there is of a file, to be added to. ``arrived`` hears how long it has become."""

    def __init__(self, path: Path, arrived: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._arrived = arrived

    def write(self, chunk: Any, /) -> int:
        """All of it, or an OSError: a disk that fills up takes a part first, and says so the next time."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[super().write(rest) :]
        self._arrived(self.tell())
        return len(chunk)


def _is_taken(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in _TAKEN and str(path.parent) in _FOLDERS and "\\" not in name


def _part_of(blob: Path) -> Path:
    """The name that the hub's clients give it: tools that clean the cache know it."""
    return blob.with_name(f"{blob.name}.incomplete")


def _link(named: Path, blob: Path) -> None:
    named.unlink(missing_ok=True)
    try:
        named.symlink_to(os.path.relpath(blob, named.parent))
    except OSError:
        # Windows lets few people make links; the hub's client does the same there.
        blob.replace(named)


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _of(arrived_bytes: int, total_bytes: int) -> str:
    """``1.2 of 2.5 GB``."""
    unit = 1e9 if total_bytes >= 1e9 else 1e6
    return f"{arrived_bytes / unit:.1f} of {_amount(total_bytes)}"
