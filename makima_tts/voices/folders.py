"""One voice as it lies on disk.

In: a folder that an operator or an upload made. Out: a :class:`VoiceFolder`, which says why when the voice
cannot be used; its reference, for an engine. Does not know: which other voices there are, engines.

A manifest is believed in nothing but words: the clip it names must be a plain file that really lies in the
folder, and it is read within the bounds of :mod:`makima_tts.audio`.
"""

from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter, ValidationError

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

# Modification time, size and inode of everything that was read, or None for what is not there.
Revision = tuple[tuple[int, int, int] | None, ...]


class _TranscriptObject(BaseModel):
    text: str = Field(validation_alias=AliasChoices("text", "transcript"))


_TRANSCRIPT_JSON: TypeAdapter[str | _TranscriptObject] = TypeAdapter(str | _TranscriptObject)


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
        """Whether nothing of it has changed on disk since it was read."""
        return stamp(self.watched) == self.revision


def stamp(paths: tuple[Path, ...]) -> Revision:
    """What tells one state of these files from another, without reading them."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_folder(path: Path, *, shipped: bool, described_by: Manifest | None = None) -> VoiceFolder:
    """Never raises: what is wrong with a folder is its ``reason``.

    ``described_by`` stands in for a manifest of its own.
    """
    watched = (path, *(path / name for name in (*_MANIFESTS, *_TRANSCRIPTS)))
    # Stamped before it is read: what changes in between is read again.
    revision = stamp(watched)
    stand_in = voice_id_of(path.name) or "voice"
    unread = VoiceFolder(path, stand_in, shipped, None, None, None, watched, revision)
    try:
        manifest = _read_manifest(path) or described_by
        if manifest is None:
            raise VoiceNotFound(f"{MANIFEST} is missing.")
    except VoiceNotFound as fault:
        return replace(unread, reason=fault.message)
    clip = path / manifest.reference_audio
    folder = replace(
        unread,
        id=manifest.id,
        manifest=manifest,
        watched=(*watched, clip),
        revision=(*revision, _stamp(clip)),
    )
    return _examined(folder)


def _examined(folder: VoiceFolder) -> VoiceFolder:
    try:
        folder = replace(folder, transcript=_read_transcript(folder))
        with open_clip(folder) as file:
            check_header(file)
        _check_mode(folder)
    except (VoiceNotFound, InvalidClip) as fault:
        return replace(folder, reason=fault.message)
    return folder


def open_clip(folder: VoiceFolder) -> BufferedReader:
    """Raises VoiceNotFound when the clip is missing, no plain file, or not in the folder."""
    manifest = manifest_of(folder)
    try:
        clip = (folder.path / manifest.reference_audio).resolve(strict=True)
        if not clip.is_relative_to(folder.path.resolve()):
            raise VoiceNotFound("reference_audio leads out of the voice's folder; put the clip itself there.")
        # A pipe would wait for its writer for ever.
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

    ``as_it_is``: nothing about the clip is mended.
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


def _check_mode(folder: VoiceFolder) -> None:
    if manifest_of(folder).mode == "icl" and not folder.transcript:
        raise VoiceNotFound(_NO_TRANSCRIPT.format(transcript=TRANSCRIPT, manifest=MANIFEST))


def _read_manifest(path: Path) -> Manifest | None:
    for name in _MANIFESTS:
        if (text := _read_text(path / name)) is None:
            continue
        try:
            return Manifest.model_validate_json(text)
        except ValidationError as error:
            raise VoiceNotFound(f"{name}: {first_fault(error)}") from None
    return None


def _read_transcript(folder: VoiceFolder) -> str | None:
    """A file of its own wins over the manifest: it is what an operator drops in."""
    text = manifest_of(folder).transcript
    for name in reversed(_TRANSCRIPTS):
        if (found := _read_text(folder.path / name)) is not None:
            text = clean(_transcript_in_json(found) if name.endswith(".json") else found)
    if text and len(text) > MAX_TRANSCRIPT_CHARS:
        raise VoiceNotFound(f"The transcript is longer than {MAX_TRANSCRIPT_CHARS} characters.")
    return text or None


def _transcript_in_json(text: str) -> str:
    try:
        found = _TRANSCRIPT_JSON.validate_json(text)
    except ValidationError:
        raise VoiceNotFound('transcript.json holds neither a text nor {"text": …}.') from None
    return found if isinstance(found, str) else found.text


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
