"""A voice that a client sends.

In: what was sent. Out: the same, checked and named, for the library. Does not know: HTTP, where voices lie.
"""

from dataclasses import dataclass, field
from typing import BinaryIO

from makima_tts.errors import InvalidMessage
from makima_tts.voices.manifest import Manifest, manifest_from, voice_id_of

CLIP = "reference.wav"

# What a clip adds to a shipped voice that came without one, and what stays as it was described.
_DESCRIBED = ("name", "description", "language", "accent")


@dataclass(frozen=True, slots=True)
class VoiceUpload:
    """``audio`` is open, seekable and of any content. Absent is None or "".

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
        """``described``: the shipped voice that it gives a clip to. Raises InvalidMessage."""
        kept = described.model_dump(include=set(_DESCRIBED)) if described else {}
        sent = {
            "name": self.name,
            "description": self.description,
            "language": self.language,
            "transcript": self.transcript,
            "mode": self.mode,
            "consent": self.consent,
        }
        made = {"id": self.voice_id(), "reference_audio": CLIP, "format": "wav"}
        given = {field: value for field, value in sent.items() if value}
        manifest = manifest_from({**kept, **given, **made})
        if manifest.mode == "icl" and not manifest.transcript:
            raise InvalidMessage(
                "transcript: is needed in mode icl. Send what is said in the clip, or the mode xvector."
            )
        return manifest
