"""What a voice's folder says about it, and the ids that voices go by.

In: JSON that an operator wrote, fields that a client sent, names. Out: a :class:`Manifest`, ids, or
InvalidMessage in words that the writer understands. Does not know: folders, clips, engines.
"""

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from makima_tts.errors import InvalidMessage
from makima_tts.protocol import AUTO, LANGUAGES, language_name
from makima_tts.speech import CloneMode
from makima_tts.text import clean

MAX_ID_CHARS = 64
MAX_NAME_CHARS = 64
MAX_TRANSCRIPT_CHARS = 2000
MAX_NOTE_CHARS = 500

_ID = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_ID_CHARS - 1}}}")


def is_voice_id(text: str) -> bool:
    """Whether ``text`` may be a voice's id at all."""
    return _ID.fullmatch(text) is not None


def voice_id_of(name: str) -> str:
    """``"Anna (2nd take)"`` → ``"anna-2nd-take"``; empty when there is no Latin letter or digit in it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:MAX_ID_CHARS].rstrip("-_")


def _known_id(text: str) -> str:
    if not is_voice_id(text):
        raise ValueError("1 to 64 of a-z, 0-9, - and _, beginning with a letter or digit")
    return text


def _plain_file_name(text: str) -> str:
    if text in (".", "..") or any(char in text for char in "/\\\0"):
        raise ValueError("the name of a file in the voice's own folder")
    return text


def _known_language(text: str) -> str:
    if (name := language_name(text)) is None:
        raise ValueError(f"one of {', '.join(LANGUAGES)} or {AUTO}")
    return name


Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS), AfterValidator(clean)]


class Manifest(BaseModel):
    """``manifest.json``. Only ``id`` and ``reference_audio`` are required; null and "" mean absent.

    ``accent``, ``sample_rate``, ``format``, ``model_backend``, ``notes`` and ``consent`` are kept for people.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: Annotated[str, AfterValidator(_known_id)]
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


def manifest_from(fields: dict[str, object]) -> Manifest:
    """Raises InvalidMessage."""
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessage(first_fault(error)) from None


def first_fault(error: ValidationError) -> str:
    """pydantic's first complaint without what was written: ``language: one of Chinese, English …``."""
    fault = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or "all of it"
    if fault["type"] == "missing":
        return f"{field} is missing."
    return f"{field}: {fault['msg'].removeprefix('Value error, must be ').removeprefix('Value error, ')}."
