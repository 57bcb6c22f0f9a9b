"""Names of voices: ids made of them, and which names are taken for the same."""

import re
import unicodedata
from collections.abc import Container
from itertools import chain, count

from anyascii import anyascii

MAX_ID_CHARS = 64
_ID = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_ID_CHARS - 1}}}")
# Clients show clips as a list of files, and send the file's name.
_SOUND_SUFFIX = re.compile(r"\.(wav|mp3|flac|ogg|opus|m4a|aac|webm|aiff?)$", re.IGNORECASE)


def is_voice_id(text: str) -> bool:
    """Whether ``text`` has the form of a voice's id."""
    return _ID.fullmatch(text) is not None


def id_of_name(name: str) -> str:
    """``" Anna.WAV"`` → ``"anna"``: an id in another case, or as the name of a file, as the id."""
    return _SOUND_SUFFIX.sub("", name.strip()).lower()


def voice_id_of(name: str) -> str:
    """``"Łukasz (2nd take)"`` → ``"lukasz-2nd-take"``, from any script; empty for punctuation alone."""
    plain = re.sub(r"[^a-z0-9_]+", "-", anyascii(name).lower())
    return plain.strip("-_")[:MAX_ID_CHARS].rstrip("-_")


def free_id(voice_id: str, taken: Container[str]) -> str:
    """``voice_id``, or with a number when that is taken."""
    names = chain([voice_id], (f"{voice_id[:56]}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def name_key(name: str) -> str:
    """Without case, width, spaces and marks: equal for names that people take for the same."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(char for char in folded if unicodedata.category(char)[0] not in "CPZ")


def spelling(name: str) -> str:
    """Equal for names that differ by case, by width, or by a hyphen for a space."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold())
