"""One voice as it lies on disk.

In: a folder that an operator or an upload wrote. Out: a :class:`VoiceFolder`, which says why when the voice
cannot be used; its reference, for an engine. Does not know: other voices, engines.

Manifests are not trusted: the clip that one names must be a plain file inside the folder, and it is read
within the bounds of :mod:`makima_tts.audio`.
"""

from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter, ValidationError

from makima_tts.audio import check_header, read_clip, read_clip_as_it_is
from makima_tts.errors import InvalidClip, VoiceNotFound
from makima_tts.protocol import AUTO
from makima_tts.speech import VoiceReference
from makima_tts.text import clean
from makima_tts.voices.manifest import MAX_TRANSCRIPT_CHARS, Manifest, first_fault, voice_id_of

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
    folder_id = voice_id_of(path.name) or "voice"
    folder = VoiceFolder(path, folder_id, shipped, None, None, None, watched, revision)
    try:
        manifest = _read_manifest(path) or described_by
        if manifest is None:
            raise VoiceNotFound(f"{MANIFEST} is missing.")
        clip = path / manifest.reference_audio
        watched, revision = (*watched, clip), (*revision, _stat(clip))
        folder = replace(folder, id=manifest.id, manifest=manifest, watched=watched, revision=revision)
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
    clip = read_clip_as_it_is(file) if as_it_is else read_clip(file)[0]
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
