"""A recording that comes with a request, to be cloned for that request."""

import base64
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from makima_tts.audio import read_clip
from makima_tts.errors import InvalidMessage
from makima_tts.protocol import AUTO
from makima_tts.speech import CloneMode, VoiceReference


@dataclass(frozen=True, slots=True)
class InlineClip:
    """``audio``: a sound file as base64, unchecked. Without ``transcript`` the voice goes by sound alone."""

    audio: str = field(repr=False)
    transcript: str | None = field(repr=False)

    @property
    def mode(self) -> CloneMode:
        return "icl" if self.transcript else "xvector"

    def open(self) -> BytesIO:
        """The sound file. White space in the base64 is ignored. Raises InvalidMessage. Blocks."""
        try:
            return BytesIO(base64.b64decode("".join(self.audio.split()), validate=True))
        except ValueError:
            raise InvalidMessage("ref_audio is not base64; send the sound file itself as base64.") from None

    def reference(self, file: BinaryIO) -> VoiceReference:
        """What an engine encodes, from the open sound file. Raises InvalidClip. Blocks."""
        clip, _ = read_clip(file, self.transcript)
        return VoiceReference(clip.pcm, clip.sample_rate_hz, self.transcript, AUTO, self.mode)
