"""Speech as OpenAI's server-sent events.

In: encoded audio, what was counted, failures. Out: the events' bytes. Does not know: when they are sent.

An event is named by ``type`` in its data and by nothing else, as OpenAI's are: a client that goes by data
alone sees every one of them.
"""

import base64
import json
from collections.abc import Mapping

from makima_tts.api.openai.errors import openai_error_body, param_of
from makima_tts.api.spoken_utterance import SpokenUtterance
from makima_tts.errors import TtsError


class EventBody:
    """``speech.audio.delta`` with the audio, then ``speech.audio.done``, or ``error`` if it fails halfway."""

    media_type = "text/event-stream"
    headers: Mapping[str, str] = {"Cache-Control": "no-cache, no-transform"}
    sign_of_life = b": speaking in a moment\n\n"

    def part(self, audio: bytes) -> bytes:
        return _event("speech.audio.delta", audio=base64.b64encode(audio).decode())

    def ending(self, utterance: SpokenUtterance) -> bytes:
        """Characters and frames: nothing else of an utterance is counted alike by every engine."""
        read, spoken = utterance.text_chars, utterance.audio_frames
        usage = {"input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken}
        return _event("speech.audio.done", usage=usage)

    def failure(self, error: TtsError) -> bytes:
        body = openai_error_body(error.http_status, error.code, error.message, param_of(error))
        return _event("error", **body.model_dump())


def _event(type_: str, **fields: object) -> bytes:
    return f"data: {json.dumps({'type': type_, **fields}, separators=(',', ':'))}\n\n".encode()
