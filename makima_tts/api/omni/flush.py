"""How one flush of vLLM-Omni's WebSocket is heard: which frames stand around its audio.

In: text as it is fed, audio, ends of pieces. Out: frames. Does not know: the client's messages, the session.

Its *sentences* are the pieces of its utterance, or with ``split_granularity`` none it is one as a whole.
"""

import io
import json
import wave
from collections.abc import Iterator
from typing import Any

from makima_tts.api.native.outbox import AnswerFrame, AudioFrame, Frame
from makima_tts.api.omni.messages import SessionConfig
from makima_tts.protocol import AudioFormat

_SHAPE = AudioFormat()


def answer(type_: str, **fields: Any) -> AnswerFrame:
    return AnswerFrame(json.dumps({"type": type_, **fields}, ensure_ascii=False))


class OmniFlush:
    """``utterance_id`` None: the session has not heard of it yet, or its utterance has ended."""

    def __init__(self, index: int, config: SessionConfig, *, engine_rate_hz: int) -> None:
        self.index = index
        self.config = config
        self.utterance_id: str | None = None
        # What is spoken as one, until it is written.
        self.text = ""
        self.written = False
        self.failed = False
        # What stretches or resamples holds a little back: it may sound when the next piece begins.
        self._keeps_back = config.speed != 1.0 or engine_rate_hz != _SHAPE.sample_rate_hz
        self._pieces: list[str] = []
        self._part = ""
        self._sentence = 0
        self._ended = False
        self._started = False
        self._held = bytearray()
        self._sent_bytes = 0

    @property
    def as_one(self) -> bool:
        return self.config.split_granularity == "none"

    @property
    def streams(self) -> bool:
        return self.config.stream_audio

    @property
    def over(self) -> bool:
        return self.written and self.utterance_id is None

    def add(self, text: str, *, ends_piece: bool) -> str | None:
        """A part of a piece; the whole piece, once it is."""
        self._part += text
        if not ends_piece:
            return None
        piece, self._part = self._part, ""
        self._pieces.append(piece)
        return piece

    def hear(self, data: bytes) -> Iterator[Frame]:
        if self._ended and len(self._pieces) > self._sentence + 1:
            yield from self._end_sentence(error=False)
        if not self.streams:
            self._held += data
            return
        yield from self._start()
        self._sent_bytes += len(data)
        yield AudioFrame(data)

    def end_piece(self) -> Iterator[Frame]:
        if self.as_one:
            return
        self._ended = True
        if not self._keeps_back:
            yield from self._end_sentence(error=False)

    def end(self) -> Iterator[Frame]:
        """Its utterance is complete; what is written after it, if anything, is another."""
        if self._sounding:
            yield from self._end_sentence(error=False)
        del self._pieces[self._sentence :]

    def fail(self, message: str, code: str) -> Iterator[Frame]:
        partial = {"partial_audio": True, "action": "discard"} if self._sent_bytes else {}
        yield answer("error", message=message, code=code, **partial)
        self._held.clear()
        if self._sounding:
            yield from self._end_sentence(error=True)

    def done(self) -> Frame:
        return answer("session.done", utterance_index=self.index, total_sentences=self._sentence)

    @property
    def _sounding(self) -> bool:
        return self._started or bool(self._held)

    def _start(self) -> Iterator[Frame]:
        if self._started:
            return
        self._started = True
        shape = {"sample_rate": _SHAPE.sample_rate_hz, "channels": 1}
        yield answer(
            "audio.start",
            **self._place(),
            sentence_text=self.text if self.as_one else self._pieces[self._sentence],
            format=self.config.response_format,
            **(shape if self.config.response_format == "pcm" else {}),
        )

    def _end_sentence(self, *, error: bool) -> Iterator[Frame]:
        yield from self._start()
        if self._held:
            audio = bytes(self._held) if self.config.response_format == "pcm" else _wav(self._held)
            self._sent_bytes = len(audio)
            yield AudioFrame(audio)
        yield answer("audio.done", **self._place(), total_bytes=self._sent_bytes, error=error)
        self._sentence += 1
        self._ended = self._started = False
        self._held = bytearray()
        self._sent_bytes = 0

    def _place(self) -> dict[str, int]:
        return {"utterance_index": self.index, "sentence_index": self._sentence}


def _wav(pcm: bytearray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(_SHAPE.bytes_per_sample)
        writer.setframerate(_SHAPE.sample_rate_hz)
        writer.writeframes(pcm)
    return file.getvalue()
