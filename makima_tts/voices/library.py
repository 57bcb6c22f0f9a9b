"""The voices on disk: those that ship with the package, and the operator's, which override them.

In: two folders of voice folders, and changes to the operator's. Out: :class:`VoiceFolder` by id. Does not
know: engines, prompts, clients.

Lookups go through an index; no path is built from an id that a client sent. A new voice is written to a
hidden folder, synced and renamed; a deleted one is renamed, then removed. So a voice is complete or absent.
Manifests are not trusted: the clip that one names must be a plain file inside its folder, and it is read
within the bounds of :mod:`makima_tts.audio`.
Everything here blocks and may be called from any thread.
"""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from makima_tts.audio import Clip, check_header, read_clip, read_clip_as_it_is, write_clip
from makima_tts.errors import Conflict, Forbidden, InvalidClip, InvalidMessage, TtsUnavailable, VoiceNotFound
from makima_tts.protocol import AUTO, LANGUAGES, language_name
from makima_tts.speech import CloneMode, VoiceReference
from makima_tts.text import clean
from makima_tts.voices.names import free_id, id_of_name, is_voice_id, name_key, spelling, voice_id_of

MAX_NAME_CHARS = 64
MAX_TRANSCRIPT_CHARS = 2000
MAX_NOTE_CHARS = 500
CLIP = "reference.wav"  # the name that an uploaded clip gets

# What stays of the description of a shipped voice without a clip when an upload adds one.
_DESCRIBED = ("name", "description", "language", "accent")


def _known_id(text: str) -> str:
    if not is_voice_id(text):
        raise ValueError("a voice's id is 1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit")
    return text


def _plain_file_name(text: str) -> str:
    if text in (".", "..") or any(char in text for char in "/\\\0"):
        raise ValueError("the name of a file in the voice's own folder")
    return text


def _known_language(text: str) -> str:
    if (name := language_name(text)) is None:
        raise ValueError(f"one of {', '.join(LANGUAGES)} or {AUTO}")
    return name


VoiceName = Annotated[str, AfterValidator(_known_id)]
Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS), AfterValidator(clean)]


class Manifest(BaseModel):
    """``manifest.json``. Only ``reference_audio`` is required; null and "" mean absent.

    Without an ``id``, it is made of the name, or of the folder's. ``accent``, ``sample_rate``, ``format``,
    ``model_backend``, ``notes`` and ``consent`` are kept for people.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: VoiceName = ""
    reference_audio: Annotated[str, Field(max_length=255), AfterValidator(_plain_file_name)]
    name: Annotated[str, Field(max_length=MAX_NAME_CHARS), AfterValidator(clean)] = ""
    description: Note = ""
    language: Annotated[str, Field(max_length=35), AfterValidator(_known_language)] | None = None
    transcript: Annotated[str, Field(max_length=MAX_TRANSCRIPT_CHARS), AfterValidator(clean)] | None = Field(
        None, repr=False
    )
    mode: CloneMode = "icl"
    consent: Note | None = None
    accent: Note | None = None
    sample_rate: int | None = None
    format: Note | None = None
    model_backend: Note | None = None
    notes: Note | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_absent(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value not in (None, "")}


def first_fault(error: ValidationError) -> str:
    """pydantic's first error without the input: ``language: one of Chinese, English …``."""
    fault = error.errors(include_input=False, include_url=False)[0]
    name = ".".join(map(str, fault["loc"])) or "all of it"
    if fault["type"] == "missing":
        return f"{name} is missing."
    return f"{name}: {fault['msg'].removeprefix('Value error, must be ').removeprefix('Value error, ')}."


@dataclass(frozen=True, slots=True)
class VoiceUpload:
    """``audio`` is open, seekable and unchecked. A field that is None or "" was not sent.

    ``mode`` is "icl", which needs the transcript, or "xvector".
    """

    audio: BinaryIO = field(repr=False)
    name: str
    transcript: str | None = field(default=None, repr=False)
    language: str | None = None
    description: str | None = None
    mode: str | None = None
    consent: str | None = field(default=None, repr=False)

    def manifest(self, voice_id: str, described: Manifest | None) -> Manifest:
        """``described``: the shipped voice to which this adds a clip. Raises InvalidMessage."""
        described_fields = described.model_dump(include=set(_DESCRIBED)) if described else {}
        names = ("name", "description", "language", "transcript", "mode", "consent")
        sent_fields = {name: value for name in names if (value := getattr(self, name))}
        own_fields = {"id": voice_id, "reference_audio": CLIP, "format": "wav"}
        try:
            manifest = Manifest.model_validate({**described_fields, **sent_fields, **own_fields})
        except ValidationError as error:
            raise InvalidMessage(first_fault(error)) from None
        if not voice_id_of(self.name):
            raise InvalidMessage("name: must hold a letter or a digit, of which the voice's id is made.")
        if manifest.mode == "icl" and not manifest.transcript:
            raise InvalidMessage(
                "transcript: is needed in mode icl. Send what is said in the clip, or the mode xvector."
            )
        return manifest


MANIFEST = "manifest.json"
TRANSCRIPT = "transcript.txt"
_MANIFESTS = (MANIFEST, "metadata.json")
_TRANSCRIPTS = (TRANSCRIPT, "transcript.json")
_MAX_TEXT_BYTES = 64 * 1024
_NO_CLIP = (
    "It has no clip yet: upload one under this name, or put {clip} and {transcript} into the voice's folder; "
    "a README.md there may say more."
)
_NO_TRANSCRIPT = (
    "Cloning in mode icl needs a transcript: put what is said in the clip into {transcript}, or set mode to "
    "xvector in {manifest}."
)
_TRANSCRIPT_JSON: TypeAdapter[str | dict[str, Any]] = TypeAdapter(str | dict[str, Any])

# Modification time, size and inode of every file that was read; None for a missing file.
Revision = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class VoiceFolder:
    """``reason`` is None when the voice is usable. ``manifest`` is None when it could not be read."""

    path: Path
    id: str
    shipped: bool
    manifest: Manifest | None
    transcript: str | None = field(repr=False)
    reason: str | None
    watched: tuple[Path, ...] = field(repr=False)
    revision: Revision = field(repr=False)

    @property
    def name(self) -> str:
        return (self.manifest.name if self.manifest else "") or self.id

    def is_current(self) -> bool:
        """Whether none of its files has changed on disk since it was read."""
        return revision_of(self.watched) == self.revision


def revision_of(paths: tuple[Path, ...]) -> Revision:
    """Differs whenever one of these files has changed; does not read them."""
    return tuple(_stat(path) for path in paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_folder(path: Path, *, shipped: bool, described_by: Manifest | None = None) -> VoiceFolder:
    """Never raises: ``reason`` says what is wrong with a folder.

    ``described_by`` stands in for a manifest of its own.
    """
    watched = (path, *(path / name for name in (*_MANIFESTS, *_TRANSCRIPTS)))
    # Taken before the files are read, so that a change in between is noticed.
    revision = revision_of(watched)
    folder = VoiceFolder(
        path, voice_id_of(path.name) or "voice", shipped, None, None, None, watched, revision
    )
    try:
        manifest = _read_manifest(path) or described_by
        if manifest is None:
            raise VoiceNotFound(f"{MANIFEST} is missing.")
        clip = path / manifest.reference_audio
        watched, revision = (*watched, clip), (*revision, _stat(clip))
        voice_id = manifest.id or voice_id_of(manifest.name) or folder.id
        folder = replace(folder, id=voice_id, manifest=manifest, watched=watched, revision=revision)
        folder = replace(folder, transcript=_read_transcript(path, manifest))
        with open_clip(folder) as file:
            check_header(file)
        if manifest.mode == "icl" and not folder.transcript:
            raise VoiceNotFound(_NO_TRANSCRIPT.format(transcript=TRANSCRIPT, manifest=MANIFEST))
    except (VoiceNotFound, InvalidClip) as fault:
        return replace(folder, reason=fault.message)
    return folder


def open_clip(folder: VoiceFolder) -> BufferedReader:
    """Raises VoiceNotFound when the clip is missing, not a plain file, or outside the folder."""
    manifest = manifest_of(folder)
    try:
        clip = (folder.path / manifest.reference_audio).resolve(strict=True)
        if not clip.is_relative_to(folder.path.resolve()):
            raise VoiceNotFound("reference_audio leads out of the voice's folder; put the clip itself there.")
        # Opening a pipe would block until a process writes to it.
        if not clip.is_file():
            raise VoiceNotFound("reference_audio is not a file.")
        return clip.open("rb")
    except FileNotFoundError:
        message = _NO_CLIP.format(clip=manifest.reference_audio, transcript=TRANSCRIPT)
        raise VoiceNotFound(message) from None
    except (OSError, RuntimeError) as error:
        raise VoiceNotFound("The clip cannot be read; look at its permissions.") from error


def read_reference(folder: VoiceFolder, file: BinaryIO, *, as_it_is: bool = False) -> VoiceReference:
    """What an engine encodes, from the folder's open clip. Raises InvalidClip. Blocks.

    ``as_it_is``: the clip is not mended.
    """
    manifest = manifest_of(folder)
    clip = read_clip_as_it_is(file) if as_it_is else read_clip(file, folder.transcript)[0]
    return VoiceReference(
        pcm=clip.pcm,
        sample_rate_hz=clip.sample_rate_hz,
        transcript=folder.transcript,
        language=manifest.language or AUTO,
        mode=manifest.mode,
    )


def manifest_of(folder: VoiceFolder) -> Manifest:
    """Raises VoiceNotFound for a folder without one."""
    if folder.manifest is None:
        raise VoiceNotFound(folder.reason or "It has no manifest.")
    return folder.manifest


def _read_manifest(path: Path) -> Manifest | None:
    for name in _MANIFESTS:
        if (text := _read_text(path / name)) is None:
            continue
        try:
            return Manifest.model_validate_json(text)
        except ValidationError as error:
            raise VoiceNotFound(f"{name}: {first_fault(error)}") from None
    return None


def _read_transcript(path: Path, manifest: Manifest) -> str | None:
    """Its own file wins over the manifest, since an operator adds that file by hand."""
    text = manifest.transcript
    for name in reversed(_TRANSCRIPTS):
        if (found := _read_text(path / name)) is not None:
            text = clean(_transcript_in_json(found) if name.endswith(".json") else found)
    if text and len(text) > MAX_TRANSCRIPT_CHARS:
        raise VoiceNotFound(f"The transcript is longer than {MAX_TRANSCRIPT_CHARS} characters.")
    return text or None


def _transcript_in_json(content: str) -> str:
    try:
        found = _TRANSCRIPT_JSON.validate_json(content)
    except ValidationError:
        found = {}
    text = found.get("text", found.get("transcript")) if isinstance(found, dict) else found
    if not isinstance(text, str):
        raise VoiceNotFound('transcript.json holds neither a text nor {"text": …}.')
    return text


def _read_text(path: Path) -> str | None:
    """None when there is no such file. A byte order mark is dropped."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(_MAX_TEXT_BYTES + 1)
        if len(content) > _MAX_TEXT_BYTES:
            raise VoiceNotFound(f"{path.name} is larger than {_MAX_TEXT_BYTES // 1024} KiB.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise VoiceNotFound(f"{path.name} cannot be read; look at its permissions.") from error
    except UnicodeDecodeError:
        raise VoiceNotFound(f"{path.name} is not UTF-8 text.") from None


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

    def find_named(self, name: str) -> VoiceFolder | None:
        """By id; else by id or name, in any case, without the suffix of a sound file.

        Raises VoiceNotFound when several voices have that name.
        """
        if (voice := self.find(name)) is not None or len(name) > 2 * MAX_NAME_CHARS:
            return voice
        bare = id_of_name(name)
        if (voice := self.find(bare)) is not None:
            return voice
        with self._lock:
            if self._is_outdated(bare):
                self._scan()
            same = [voice for voice in self._index.values() if spelling(voice.name) == spelling(bare)]
        if len(same) > 1:
            ids = ", ".join(sorted(voice.id for voice in same))
            raise VoiceNotFound(f"Several voices have this name; use one of the ids {ids}.")
        return same[0] if same else None

    def place(self, name: str) -> tuple[str, VoiceFolder | None]:
        """The id for a new voice of this name, and the shipped voice to which it would add a clip, if any.

        Raises Conflict when there is a voice of this name, or no room.
        """
        with self._lock:
            known = self.voices()
            key = name_key(name)
            same = next((voice.id for voice in known if key in map(name_key, (voice.id, voice.name))), None)
            voice_id = same or free_id(voice_id_of(name) or "voice", {voice.id for voice in known})
            return voice_id, self.require_room(voice_id)

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
        self._index = _by_id(shipped)
        self._index |= _by_id(own, overridden=self._index)
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
        taken = {path.name for path in self._voices_dir.iterdir()}
        return self._voices_dir / free_id(voice_id, taken)

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


def _by_id(voices: Iterable[VoiceFolder], overridden: Iterable[str] = ()) -> dict[str, VoiceFolder]:
    """If several folders have one id, the first by name keeps it; the others are listed under similar ids.

    An id that was made of a name is never one that another folder has, and does not override a shipped voice.
    """
    index: dict[str, VoiceFolder] = {}

    def made_of_name(voice: VoiceFolder) -> bool:
        return voice.manifest is not None and not voice.manifest.id

    ordered = sorted(voices, key=lambda voice: (voice.manifest is None, made_of_name(voice), voice.path.name))
    later = [
        voice
        for voice in ordered
        if (made_of_name(voice) and voice.id in overridden) or index.setdefault(voice.id, voice) is not voice
    ]
    for voice in later:
        reason = voice.reason
        if not made_of_name(voice):
            reason = reason or f"Another folder has the id {voice.id}; give this one an id of its own."
        voice_id = free_id(voice.id, {*index, *overridden})
        index[voice_id] = replace(voice, id=voice_id, reason=reason)
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
