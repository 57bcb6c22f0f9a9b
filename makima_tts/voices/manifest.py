"""The description of a voice: its manifest, its id, and the form in which a client uploads it.

In: JSON that an operator wrote, fields that a client sent. Out: a :class:`Manifest`, ids, or InvalidMessage.
Does not know: folders, what clips hold, engines, HTTP.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from makima_tts.errors import InvalidMessage
from makima_tts.protocol import AUTO, LANGUAGES, language_name
from makima_tts.speech import CloneMode
from makima_tts.text import clean

MAX_ID_CHARS = 64
MAX_NAME_CHARS = 64
MAX_TRANSCRIPT_CHARS = 2000
MAX_NOTE_CHARS = 500
CLIP = "reference.wav"  # the name that an uploaded clip gets

# What stays of the description of a shipped voice without a clip when an upload adds one.
_DESCRIBED = ("name", "description", "language", "accent")

_ID = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_ID_CHARS - 1}}}")


def is_voice_id(text: str) -> bool:
    """Whether ``text`` has the form of a voice's id."""
    return _ID.fullmatch(text) is not None


def voice_id_of(name: str) -> str:
    """``"Anna (2nd take)"`` → ``"anna-2nd-take"``; empty when there is no Latin letter or digit in it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_ID_CHARS].rstrip("-_")


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
    """``manifest.json``. Only ``id`` and ``reference_audio`` are required; null and "" mean absent.

    ``accent``, ``sample_rate``, ``format``, ``model_backend``, ``notes`` and ``consent`` are kept for people.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: VoiceName
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

    def voice_id(self) -> str:
        """The name in small Latin letters, digits and hyphens. Raises InvalidMessage if nothing is left."""
        if voice_id := voice_id_of(self.name):
            return voice_id
        raise InvalidMessage("name: must hold a Latin letter or a digit, of which the voice's id is made.")

    def manifest(self, described: Manifest | None) -> Manifest:
        """``described``: the shipped voice to which this adds a clip. Raises InvalidMessage."""
        described_fields = described.model_dump(include=set(_DESCRIBED)) if described else {}
        names = ("name", "description", "language", "transcript", "mode", "consent")
        sent_fields = {name: value for name in names if (value := getattr(self, name))}
        own_fields = {"id": self.voice_id(), "reference_audio": CLIP, "format": "wav"}
        try:
            manifest = Manifest.model_validate({**described_fields, **sent_fields, **own_fields})
        except ValidationError as error:
            raise InvalidMessage(first_fault(error)) from None
        if manifest.mode == "icl" and not manifest.transcript:
            raise InvalidMessage(
                "transcript: is needed in mode icl. Send what is said in the clip, or the mode xvector."
            )
        return manifest
