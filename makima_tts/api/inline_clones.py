"""The fields of a request that bring the clip to clone with them, as vLLM-Omni names them.

In: the fields of a request. Out: an :class:`~makima_tts.voices.InlineClip`, or words on what does not fit
together. Does not know: sound, engines, whether the engine can clone.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from makima_tts.api.speech_response import StreamOptions
from makima_tts.errors import PayloadTooLarge
from makima_tts.text import clean
from makima_tts.voices import InlineClip
from makima_tts.voices.library import MAX_TRANSCRIPT_CHARS

# 20,000 code points, each as two six-byte escapes, and the fields around them.
MAX_JSON_BYTES = 256 * 1024
_CLIPS = ("ref_audio", "refAudio")
_MAX_SCHEME_CHARS = 200


def _sent_itself(audio: str) -> str:
    """The base64 of a data URL, or of none."""
    scheme, colon, _ = audio[:_MAX_SCHEME_CHARS].partition(":")
    if not colon:
        return audio
    if scheme.strip().lower() != "data":
        raise ValueError("send the clip itself as base64; this service fetches no URL and opens no file")
    header, _, content = audio.partition(",")
    if not header.lower().endswith(";base64"):
        raise ValueError("a data URL must be base64: data:audio/wav;base64,…")
    return content


def _no_design(task: Any) -> Any:
    if isinstance(task, str) and task.strip().lower() == "voicedesign":
        raise ValueError("no voice here is made of a description; send a clip in ref_audio, or name a voice")
    return task


def _no_embedding(_: Any) -> None:
    raise ValueError("a voice is cloned from its clip, not from an embedding; send the clip in ref_audio")


TaskType = Annotated[Literal["CustomVoice", "Base"], BeforeValidator(_no_design)]


class CloneOptions(StreamOptions):
    """The voice of a clip that comes with the request. The clip wins over ``voice``."""

    ref_audio: Annotated[str, AfterValidator(_sent_itself)] | None = Field(
        None, repr=False, description="A recording to clone, as base64 or as a data URL; nothing is stored"
    )
    ref_text: Annotated[str, Field(max_length=MAX_TRANSCRIPT_CHARS)] | None = Field(
        None, repr=False, description="Every word that is said in the clip; without it, sound alone is cloned"
    )
    x_vector_only_mode: bool = Field(False, description="Clone without the transcript")
    task_type: TaskType | None = Field(None, description="Base: clone; CustomVoice: a voice of the library")
    speaker_embedding: Annotated[None, BeforeValidator(_no_embedding)] = Field(
        None, repr=False, description="Refused"
    )

    @model_validator(mode="before")
    @classmethod
    def _only_the_clip_is_long(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            others = (value for name, value in fields.items() if name not in _CLIPS)
            if any(len(str(value)) > MAX_JSON_BYTES for value in others):
                raise PayloadTooLarge(
                    f"The body is too large; send at most {MAX_JSON_BYTES} bytes beside a clip."
                )
        return fields

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.ref_audio is None and (self.ref_text or self.x_vector_only_mode):
            raise ValueError("ref_text and x_vector_only_mode belong to a clip; send it in ref_audio")
        if self.ref_audio is not None and self.task_type == "CustomVoice":
            raise ValueError("ref_audio is cloned, which is the task_type Base; CustomVoice takes a voice")
        return self

    @property
    def clip(self) -> InlineClip | None:
        if self.ref_audio is None:
            return None
        transcript = None if self.x_vector_only_mode else clean(self.ref_text or "")
        return InlineClip(self.ref_audio, transcript or None)
