"""Voices over HTTP: list, look at, add, delete.

In: ids, multipart forms. Out: listings, reports on clips. Does not know: folders, engines, sessions.
"""

from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field

from makima_tts.api.failures import failures
from makima_tts.audio import ClipReport
from makima_tts.speech import CloneMode
from makima_tts.voices import VoiceListing, VoiceManager, VoiceUpload
from makima_tts.voices.manifest import MAX_NAME_CHARS, MAX_NOTE_CHARS, MAX_TRANSCRIPT_CHARS

_Note = Annotated[str, Form(max_length=MAX_NOTE_CHARS)]
_Text = Annotated[
    str, Form(max_length=MAX_TRANSCRIPT_CHARS, description="Every word that is said in the clip")
]


class Voices(BaseModel):
    """Every voice, available or not."""

    voices: list[VoiceListing]


class AddedVoice(BaseModel):
    """The new voice, and what can be said of its clip."""

    voice: VoiceListing
    report: ClipReport = Field(description="The clip as it was sent, and what was done to it")


def voices_router(voices: VoiceManager) -> APIRouter:
    """``/api/v1/voices``. Routes that are not ``async`` run in a worker thread: they look at the disk."""
    router = APIRouter(prefix="/api/v1/voices", tags=["voices"])

    @router.get("")
    def list_voices() -> Voices:
        """All voices, also those that cannot be used now, with the reason."""
        return Voices(voices=voices.list())

    @router.get("/{voice_id}", responses=failures(404))
    def get_voice(voice_id: str) -> VoiceListing:
        return voices.describe(voice_id)

    @router.post("", status_code=201, responses=failures(400, 409, 413, 422, 503))
    async def add_voice(
        *,
        audio: Annotated[
            UploadFile, File(description="WAV, FLAC, OGG or MP3 of 3 to 60 s; 5 to 15 s are best")
        ],
        name: Annotated[
            str, Form(max_length=MAX_NAME_CHARS, description="Its id is made of it", examples=["Anna"])
        ],
        transcript: _Text = "",
        language: Annotated[str, Form(max_length=35, description="A name or tag", examples=["en"])] = "",
        description: _Note = "",
        mode: Annotated[
            CloneMode, Form(description="icl needs the transcript; xvector goes by sound alone")
        ] = "icl",
        consent: _Note = "",
    ) -> AddedVoice:
        """Add a voice from a recording of one person. Get the speaker's consent first, and note it."""
        upload = VoiceUpload(audio.file, name, transcript, language, description, mode, consent)
        listing, report = await voices.add(upload)
        return AddedVoice(voice=listing, report=report)

    @router.delete("/{voice_id}", status_code=204, responses=failures(403, 404, 503))
    async def delete_voice(voice_id: str) -> None:
        """Delete a voice that was added. Who is speaking with it finishes."""
        await voices.delete(voice_id)

    return router
