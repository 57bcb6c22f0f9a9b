"""The voices on disk: those that ship with the package, and the operator's, which override them.

In: two folders of voice folders, and changes to the operator's. Out: :class:`VoiceFolder` by id. Does not
know: engines, prompts, clients.

Lookups go through an index; no path is built from an id that a client sent. A new voice is written to a
hidden folder, synced and renamed; a deleted one is renamed, then removed. So a voice is complete or absent.
Everything here blocks and may be called from any thread.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from makima_tts.audio import Clip, write_clip
from makima_tts.errors import Conflict, Forbidden, TtsUnavailable, VoiceNotFound
from makima_tts.voices.folders import (
    MANIFEST,
    TRANSCRIPT,
    Manifest,
    Revision,
    VoiceFolder,
    is_voice_id,
    read_folder,
    revision_of,
)

SHIPPED = Path(__file__).parent / "shipped"
MAX_VOICES = 1000
RESCAN_S = 1.0

_INCOMING = ".incoming-"
_DELETED = ".deleted-"


class VoiceLibrary:
    """``voices_dir`` may be missing: adding the first voice creates it."""

    def __init__(
        self,
        voices_dir: Path,
        *,
        shipped_dir: Path = SHIPPED,
        max_voices: int = MAX_VOICES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._voices_dir = voices_dir
        self._shipped_dir = shipped_dir
        self._max_voices = max_voices
        self._clock = clock
        self._lock = threading.RLock()
        self._known: dict[Path, VoiceFolder] = {}
        self._index: dict[str, VoiceFolder] = {}
        self._roots = revision_of(())
        self._scanned_s = 0.0
        self._incoming: set[Path] = set()

    def voices(self) -> list[VoiceFolder]:
        """All voices as they are on disk now, sorted by id; unusable ones too."""
        with self._lock:
            self._scan()
            return [self._index[voice_id] for voice_id in sorted(self._index)]

    def find(self, voice_id: str) -> VoiceFolder | None:
        """As it is on disk now. None for an unknown or malformed id.

        A new id in an edited manifest is noticed within ``RESCAN_S``: not every unknown id may cause a scan.
        """
        if not is_voice_id(voice_id):
            return None
        if (voice := self._current(voice_id)) is not None:
            return voice
        with self._lock:
            if self._is_outdated(voice_id):
                self._scan()
            return self._index.get(voice_id)

    def require_room(self, voice_id: str) -> VoiceFolder | None:
        """The shipped voice to which a new one of this id would add a clip, if any. Raises Conflict."""
        with self._lock:
            voice = self.find(voice_id)
            if voice is not None and not (voice.shipped and voice.reason):
                raise Conflict(
                    f"There is a voice {voice_id} already. Choose another name, or delete that one first."
                )
            if sum(not known.shipped for known in self._index.values()) >= self._max_voices:
                raise Conflict(f"There are {self._max_voices} voices, which is the most. Delete one first.")
            return voice

    def add(self, manifest: Manifest, clip: Clip, transcript: str | None) -> VoiceFolder:
        """Raises Conflict, and TtsUnavailable when the operator's folder cannot be written."""
        with _writing(), self._incoming_folder() as incoming:
            _write_voice(incoming, manifest, clip, transcript)
            with self._lock:
                self.require_room(manifest.id)
                incoming.rename(self._free_path(manifest.id))
                _sync(self._voices_dir)
                self._scan()
                return self._index[manifest.id]

    def remove(self, voice_id: str) -> None:
        """Raises VoiceNotFound, Forbidden for what ships, TtsUnavailable when it cannot be written."""
        deleted = self._voices_dir / f"{_DELETED}{secrets.token_hex(8)}"
        with _writing(), self._lock:
            voice = self.find(voice_id)
            if voice is None:
                raise VoiceNotFound("There is no such voice; GET /api/v1/voices lists those there are.")
            if voice.shipped:
                raise Forbidden("This voice comes with the service and cannot be deleted.")
            voice.path.rename(deleted)
            _sync(self._voices_dir)
            self._scan()
        _discard(deleted)

    def sweep(self) -> None:
        """Remove the half written and half deleted folders of a process that died."""
        for prefix in (_INCOMING, _DELETED):
            for leftover in self._voices_dir.glob(f"{prefix}*"):
                if leftover not in self._incoming:
                    _discard(leftover)

    def _current(self, voice_id: str) -> VoiceFolder | None:
        """The indexed voice if nothing has changed. Takes no lock, so that a scan does not delay it."""
        voice = self._index.get(voice_id)
        unchanged = voice is not None and voice.is_current() and self._roots == self._root_revision()
        return voice if unchanged else None

    def _is_outdated(self, voice_id: str) -> bool:
        if voice_id in self._index:
            return self._current(voice_id) is None
        return self._roots != self._root_revision() or self._clock() - self._scanned_s >= RESCAN_S

    def _scan(self) -> None:
        roots = self._root_revision()
        shipped = [self._read(path, shipped=True) for path in _folders(self._shipped_dir)]
        # In a checkout the shipped voices lie in the default voices_dir.
        shipped_paths = {voice.path.resolve() for voice in shipped}
        # A folder named after a shipped voice needs only a clip and its transcript.
        manifests = {voice.path.name: _without_clip(voice.manifest) for voice in shipped if voice.manifest}
        own = [
            self._read(path, shipped=False, described_by=manifests.get(path.name))
            for path in _folders(self._voices_dir)
            if path.resolve() not in shipped_paths
        ]
        self._known = {voice.path: voice for voice in (*shipped, *own)}
        self._index = {**_by_id(shipped), **_by_id(own)}
        self._roots = roots
        self._scanned_s = self._clock()

    def _read(self, path: Path, *, shipped: bool, described_by: Manifest | None = None) -> VoiceFolder:
        known = self._known.get(path)
        if known is not None and known.is_current():
            return known
        return read_folder(path, shipped=shipped, described_by=described_by)

    def _root_revision(self) -> Revision:
        return revision_of((self._shipped_dir, self._voices_dir))

    def _free_path(self, voice_id: str) -> Path:
        """A readable name that is free; the id in the manifest is what counts."""
        names = chain([voice_id], (f"{voice_id}-{number}" for number in count(2)))
        return next(path for name in names if not os.path.lexists(path := self._voices_dir / name))

    @contextmanager
    def _incoming_folder(self) -> Iterator[Path]:
        path = self._voices_dir / f"{_INCOMING}{secrets.token_hex(8)}"
        self._incoming.add(path)
        try:
            path.mkdir(parents=True)
            yield path
        finally:
            _discard(path)
            self._incoming.discard(path)


def _folders(root: Path) -> list[Path]:
    """Voice folders; a name with a dot in front is being added or deleted."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _without_clip(manifest: Manifest) -> Manifest:
    """The manifest without what describes one recording."""
    return manifest.model_copy(update=dict.fromkeys(("transcript", "consent", "notes", "sample_rate")))


def _by_id(voices: Iterable[VoiceFolder]) -> dict[str, VoiceFolder]:
    """If several folders have one id, the first by name keeps it; the others are listed under similar ids."""
    index: dict[str, VoiceFolder] = {}
    ordered = sorted(voices, key=lambda voice: (voice.manifest is None, voice.path.name))
    for voice in [voice for voice in ordered if index.setdefault(voice.id, voice) is not voice]:
        reason = voice.reason or f"Another folder has the id {voice.id}; give this one an id of its own."
        free_id = next(name for number in count(2) if (name := f"{voice.id[:56]}-{number}") not in index)
        index[free_id] = replace(voice, id=free_id, reason=reason)
    return index


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TtsUnavailable(
            f"The folder of voices cannot be written ({error.strerror}). "
            "The operator must make TTS_VOICES_DIR writable, or free space there."
        ) from error


def _write_voice(folder: Path, manifest: Manifest, clip: Clip, transcript: str | None) -> None:
    """Syncs every file to the disk before it returns."""
    _write(folder / MANIFEST, manifest.model_dump_json(indent=2, exclude_defaults=True))
    if transcript is not None:
        _write(folder / TRANSCRIPT, transcript)
    with (folder / manifest.reference_audio).open("wb") as file:
        write_clip(file, clip)
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """May fail silently: the next sweep tries again."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
