"""Voices as OpenAI's clients and Open WebUI ask for them.

In: OpenAI's forms, ids. Out: listings in both of their shapes. Does not know: folders, engines, sessions.
"""

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field

from makima_tts.api.openai.errors import openai_failures
from makima_tts.voices import VoiceListing, VoiceManager, VoiceUpload
from makima_tts.voices.manifest import MAX_NAME_CHARS, MAX_NOTE_CHARS, MAX_TRANSCRIPT_CHARS


class NamedVoice(BaseModel):
    """A voice, as Open WebUI reads one."""

    id: str
    name: str


class AudioVoice(BaseModel):
    """A voice, as OpenAI describes one, and whether it can speak now."""

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    name: str
    type: Literal["audio_sample"] = "audio_sample"
    language: str = Field(description="English name of what its clip speaks, or Auto")
    available: bool
    reason: str | None = Field(None, description="Why it is not available, and what to do")


class CreatedVoice(AudioVoice):
    """``created_at``: now, in Unix seconds."""

    created_at: int


class DeletedVoice(BaseModel):
    """What OpenAI's clients wait for."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


class AudioVoices(BaseModel):
    """``voices``: those that can speak now, as Open WebUI offers them. ``data``: all, those first."""

    object: Literal["list"] = "list"
    voices: list[NamedVoice]
    data: list[AudioVoice]


def openai_voices_router(voices: VoiceManager) -> APIRouter:
    """``/v1/audio/voices``. Routes that are not ``async`` run in a worker thread: they look at the disk."""
    router = APIRouter(prefix="/v1/audio/voices", tags=["OpenAI"])

    @router.get("")
    def list_audio_voices() -> AudioVoices:
        """The voices of the library. OpenAI's names are not among them: they are other names for these."""
        listings = sorted(voices.list(), key=lambda listing: not listing.available)
        usable = [NamedVoice(id=listing.id, name=listing.name) for listing in listings if listing.available]
        return AudioVoices(voices=usable, data=[AudioVoice(**_described(listing)) for listing in listings])

    @router.post("", responses=openai_failures(400, 403, 409, 413, 422, 429, 503))
    async def create_audio_voice(
        *,
        kind: Annotated[
            Literal["audio_sample"],
            Form(alias="type", description="No voice here is made of a description"),
        ] = "audio_sample",
        audio_sample: Annotated[
            UploadFile, File(description="WAV, FLAC, OGG or MP3 of 3 to 60 s; 5 to 15 s are best")
        ],
        name: Annotated[
            str, Form(max_length=MAX_NAME_CHARS, description="Its id is made of it", examples=["Anna"])
        ],
        consent: Annotated[
            str, Form(max_length=MAX_NOTE_CHARS, description="Any note of the speaker's consent; it is kept")
        ],
        ref_text: Annotated[
            str,
            Form(
                max_length=MAX_TRANSCRIPT_CHARS,
                description="Every word that is said in the clip. Without it the voice goes by sound alone",
            ),
        ] = "",
        language: Annotated[str, Form(max_length=35, description="A name or tag", examples=["en"])] = "",
    ) -> CreatedVoice:
        """Add a voice from a recording of one person. Get the speaker's consent first, and note it."""
        mode = "icl" if ref_text.strip() else "xvector"
        upload = VoiceUpload(audio_sample.file, name, ref_text, language, mode=mode, consent=consent)
        listing, _ = await voices.add(upload)
        return CreatedVoice(**_described(listing), created_at=int(time.time()))

    @router.delete("/{voice_id}", responses=openai_failures(403, 404, 503))
    async def delete_audio_voice(voice_id: str) -> DeletedVoice:
        """Delete a voice that was added. Who is speaking with it finishes."""
        await voices.delete(voice_id)
        return DeletedVoice(id=voice_id)

    return router


def _described(listing: VoiceListing) -> dict[str, Any]:
    return listing.model_dump(include=set(AudioVoice.model_fields))
