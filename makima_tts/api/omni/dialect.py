"""vLLM-Omni's WebSocket for speech from growing text, as a dialect of a session.

In: session.config, input.text, input.done, session.close; a session's messages and audio. Out: inputs of a
session; audio.start, binary audio, audio.done, session.done, error. Does not know: sockets, engines.

A *flush* is all text up to an input.done, and an utterance of the session. vLLM-Omni's server answers one
flush after the other; here the next flush may be written while one is spoken. The *sentences* of a flush are
the pieces of its utterance; with ``split_granularity`` none, the whole flush is one.
"""

import io
import json
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter, WebSocket
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from makima_tts.api.connection import NOT_TEXT, ContentFrame, Frame, serve_websocket
from makima_tts.api.inline_clones import TaskType
from makima_tts.api.service import Service, VoiceLookup
from makima_tts.errors import InvalidMessage, NothingToSay
from makima_tts.protocol import (
    AUTO,
    AudioFormat,
    Complete,
    ErrorMessage,
    Limits,
    Sentence,
    ServerMessage,
    Speak,
    Start,
    Stop,
    Stopped,
)
from makima_tts.protocol.fields import ClientFields
from makima_tts.protocol.frames import read_json, well_formed
from makima_tts.protocol.messages import SILENT_TURN_S, Language, Seed, Speed
from makima_tts.session.effects import FeedPiece, Send, SendAudio
from makima_tts.session.inputs import Malformed, SessionInput

# Audio that is sent as one is held until it is whole: some six minutes of it.
MAX_WHOLE_CHARS = 5000
# More than a session queues; an empty flush waits without being queued.
MAX_FLUSHES = 100
_TOO_LONG_AS_ONE = (
    f"Audio in one piece is for at most {MAX_WHOLE_CHARS} characters; set split_granularity to sentence, or "
    "stream_audio to true."
)
_FORMAT = AudioFormat()
_NO_VOICE_OF_ITS_OWN = (
    "voices are not cloned by a session; send ref_audio to POST /v1/audio/speech, or add a voice with POST "
    "/v1/audio/voices and name it in `voice`"
)


class _Fields(ClientFields):
    """Names in snake_case. Fields that only tune vLLM-Omni's engine are ignored."""

    model_config = ConfigDict(alias_generator=None)


class SessionConfig(_Fields):
    """The first message, and again between two flushes. Any ``model`` is fine; there is one."""

    type: Literal["session.config"]
    voice: str | None = None
    language: Language = AUTO
    response_format: Literal["wav", "pcm"] = "wav"
    stream_audio: bool = False
    split_granularity: Literal["none", "sentence", "clause"] = "none"
    speed: Speed = 1.0
    seed: Seed | None = None
    task_type: TaskType | None = None
    word_timestamps: Literal[False] = False
    ref_audio: str | None = Field(None, repr=False)
    ref_text: str | None = Field(None, repr=False)
    x_vector_only_mode: bool = False
    speaker_embedding: list[float] | None = Field(None, repr=False)

    @model_validator(mode="after")
    def _can_be_done(self) -> "SessionConfig":
        if self.stream_audio and self.response_format != "pcm":
            raise ValueError("stream_audio needs response_format pcm")
        if self.ref_audio or self.ref_text or self.x_vector_only_mode or self.speaker_embedding is not None:
            raise ValueError(_NO_VOICE_OF_ITS_OWN)
        return self


class InputText(_Fields):
    """More text, split anywhere."""

    type: Literal["input.text"]
    text: str = Field(repr=False)


class InputDone(_Fields):
    """The end of a flush; the connection stays."""

    type: Literal["input.done"]


class SessionClose(_Fields):
    """The end of the connection."""

    type: Literal["session.close"]


OmniMessage = SessionConfig | InputText | InputDone | SessionClose
_ADAPTER: TypeAdapter[OmniMessage] = TypeAdapter(Annotated[OmniMessage, Field(discriminator="type")])


def parse_omni_message(text: str) -> OmniMessage:
    """Raises InvalidMessage: which field is wrong, what is allowed."""
    fields = read_json(text)
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        raise InvalidMessage("`type` must be session.config, input.text, input.done or session.close.")
    where = "".join(f"`{part}`: " for part in first["loc"])
    raise InvalidMessage(f"{where}{first['msg'].removeprefix('Value error, ')}.")


def answer(type_: str, **fields: Any) -> ContentFrame:
    return ContentFrame(json.dumps({"type": type_, **fields}, ensure_ascii=False))


@dataclass(slots=True)
class OmniFlush:
    """The frames around the audio of one flush.

    ``utterance_id`` None: the session does not have it yet, or its utterance has ended. ``text``: that of a
    flush that is spoken as one, until it is finished. ``silent``: it has text without words. ``sentences``:
    whose audio is done.
    """

    index: int
    config: SessionConfig
    engine_rate_hz: int
    utterance_id: str | None = None
    text: str = field(default="", repr=False)
    finished: bool = False
    failed: bool = False
    silent: bool = False
    sentences: int = 0
    _pieces: list[str] = field(default_factory=list, repr=False)
    _open_piece: str = field(default="", repr=False)
    _piece_ended: bool = False
    _started: bool = False
    _held: bytearray = field(default_factory=bytearray, repr=False)
    _sent_bytes: int = 0

    @property
    def as_one(self) -> bool:
        return self.config.split_granularity == "none"

    def add_text(self, text: str, *, ends_piece: bool) -> str | None:
        """A part of a piece. Returns the piece, once it is whole."""
        self._open_piece += text
        if not ends_piece:
            return None
        piece, self._open_piece = self._open_piece, ""
        self._pieces.append(piece)
        return piece

    def add_audio(self, data: bytes) -> Iterator[Frame]:
        if self._piece_ended and len(self._pieces) > self.sentences + 1:
            yield from self._end_sentence(error=False)
        if not self.config.stream_audio:
            self._held += data
            return
        yield from self._start()
        self._sent_bytes += len(data)
        yield ContentFrame(data, audio=True)

    def end_piece(self) -> Iterator[Frame]:
        if self.as_one:
            return
        self._piece_ended = True
        # Stretching and resampling hold some samples back: they may be sent when the next piece begins.
        if self.config.speed == 1.0 and self.engine_rate_hz == _FORMAT.sample_rate_hz:
            yield from self._end_sentence(error=False)

    def end(self) -> Iterator[Frame]:
        """Its utterance is complete. Text that comes later begins another."""
        yield from self._end_open_sentence(error=False)
        del self._pieces[self.sentences :]

    def end_silent(self) -> Iterator[Frame]:
        """Text without words is one sentence of silence."""
        if self.silent and not self.failed and self.sentences == 0:
            self._pieces = [self.text]
            yield from self.add_audio(bytes(round(SILENT_TURN_S * _FORMAT.sample_rate_hz) * 2))
            yield from self._end_sentence(error=False)

    def fail(self, message: str, code: str) -> Iterator[Frame]:
        partial = {"partial_audio": True, "action": "discard"} if self._sent_bytes else {}
        yield answer("error", message=message, code=code, **partial)
        self._held.clear()
        yield from self._end_open_sentence(error=True)

    def _end_open_sentence(self, *, error: bool) -> Iterator[Frame]:
        if self._started or self._held:
            yield from self._end_sentence(error=error)

    def _start(self) -> Iterator[Frame]:
        if self._started:
            return
        self._started = True
        shape = {"sample_rate": _FORMAT.sample_rate_hz, "channels": 1}
        yield answer(
            "audio.start",
            **self._indices(),
            sentence_text=self.text if self.as_one else self._pieces[self.sentences],
            format=self.config.response_format,
            **(shape if self.config.response_format == "pcm" else {}),
        )

    def _end_sentence(self, *, error: bool) -> Iterator[Frame]:
        yield from self._start()
        if self._held:
            audio = bytes(self._held) if self.config.response_format == "pcm" else _wav(self._held)
            self._sent_bytes = len(audio)
            yield ContentFrame(audio, audio=True)
        yield answer("audio.done", **self._indices(), total_bytes=self._sent_bytes, error=error)
        self.sentences += 1
        self._piece_ended = self._started = False
        self._held, self._sent_bytes = bytearray(), 0

    def _indices(self) -> dict[str, int]:
        return {"utterance_index": self.index, "sentence_index": self.sentences}


def _wav(pcm: bytearray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(_FORMAT.bytes_per_sample)
        writer.setframerate(_FORMAT.sample_rate_hz)
        writer.writeframes(pcm)
    return file.getvalue()


class OmniDialect:
    """``limits``: the session's."""

    events = True

    def __init__(self, look_up_voice: VoiceLookup, *, limits: Limits, engine_rate_hz: int) -> None:
        self.look_up_voice = look_up_voice
        self._limits = limits
        self._engine_rate_hz = engine_rate_hz
        self._config: SessionConfig | None = None
        # Flushes without a session.done. The session speaks the first; the last may still grow.
        self._flushes: list[OmniFlush] = []
        self._flush_count = 0
        self._utterance_count = 0

    @property
    def plays_live(self) -> bool:
        return self._config is not None and self._config.stream_audio

    def read(self, text: str | None) -> Iterable[SessionInput | Frame]:
        if text is None:
            return [NOT_TEXT]
        try:
            message = parse_omni_message(text)
        except InvalidMessage as error:
            return [Malformed(error.message), *([Stop()] if self._config is None else [])]
        return self._apply(message)

    def write(self, effect: Send | SendAudio) -> Iterable[Frame]:
        if isinstance(effect, SendAudio):
            return self._flushes[0].add_audio(effect.data)
        return self._translate(effect.message)

    def feed(self, effect: FeedPiece) -> FeedPiece | None:
        """A sentence's text is sent before its audio, so a piece is spoken once it is whole."""
        flush = self._flush_of(effect.utterance_id)
        piece = flush.add_text(effect.text, ends_piece=effect.ends_piece) if flush else None
        return None if piece is None else FeedPiece(effect.utterance_id, piece)

    # The client

    def _apply(self, message: OmniMessage) -> Iterator[SessionInput | Frame]:
        match message:
            case SessionConfig():
                yield from self._configure(message)
            case SessionClose():
                yield Stop()
            case _ if self._config is None:
                yield Malformed("The first message must be session.config.")
                yield Stop()
            case _ if self._begins_flush and len(self._flushes) >= MAX_FLUSHES:
                yield Malformed("Too many flushes wait to be spoken; wait for session.done.")
            case InputText():
                yield from self._add_text(self._open_flush(self._config), message.text)
            case InputDone():
                yield from self._end_text(self._open_flush(self._config))

    def _configure(self, config: SessionConfig) -> Iterator[SessionInput]:
        if self._flushes:
            yield Malformed("session.config is for between two flushes; wait for session.done.")
            return
        self._config = config
        yield Start(language=config.language, speed=config.speed, events=True)

    @property
    def _begins_flush(self) -> bool:
        return not self._flushes or self._flushes[-1].finished

    def _open_flush(self, config: SessionConfig) -> OmniFlush:
        if self._begins_flush:
            self._flushes.append(OmniFlush(self._flush_count, config, self._engine_rate_hz))
            self._flush_count += 1
        return self._flushes[-1]

    def _add_text(self, flush: OmniFlush, text: str) -> Iterator[SessionInput | Frame]:
        if flush.failed or not text:
            return
        if not flush.as_one:
            yield from self._speak(flush, text, final=False)
            return
        flush.text += text  # spoken as one: held until the text is finished
        limit_chars, too_long = self._limits.max_utterance_chars, None
        if not flush.config.stream_audio and len(flush.text) > MAX_WHOLE_CHARS:
            too_long = _TOO_LONG_AS_ONE
        elif len(flush.text) > limit_chars:
            too_long = (
                f"A flush may hold {limit_chars} characters; send input.done before, or split_granularity."
            )
        if too_long is not None:
            flush.failed, flush.text = True, ""
            yield answer("error", message=too_long)

    def _end_text(self, flush: OmniFlush) -> Iterator[SessionInput | Frame]:
        flush.finished, flush.text = True, well_formed(flush.text)
        if not flush.failed and (flush.text or flush.utterance_id is not None):
            yield from self._speak(flush, flush.text, final=True)
        else:
            yield from self._done()

    def _speak(self, flush: OmniFlush, text: str, *, final: bool) -> Iterator[SessionInput]:
        if flush.utterance_id is None:
            self._utterance_count += 1
            flush.utterance_id = f"flush-{flush.index}-{self._utterance_count}"
        size, utterance_id = self._limits.max_text_chars, flush.utterance_id
        parts = [text[begin : begin + size] for begin in range(0, len(text), size)] or [""]
        for number, part in enumerate(parts, 1):
            yield Speak(
                text=part,
                utterance_id=utterance_id,
                final=final and number == len(parts),
                voice=flush.config.voice,
                seed=flush.config.seed,
            )

    # The session

    def _translate(self, message: ServerMessage) -> Iterator[Frame]:
        match message:
            case Sentence():
                yield from self._flushes[0].end_piece()
            case Complete():
                flush = self._flushes[0]
                flush.utterance_id = None
                yield from flush.end()
                yield from self._done()
            case ErrorMessage():
                yield from self._fail(message)
            case Stopped(reason="idle"):
                yield answer("error", message="Idle timeout: no message received")

    def _fail(self, message: ErrorMessage) -> Iterator[Frame]:
        flush = self._flush_of(message.utterance_id)
        if flush is None:
            yield answer("error", message=message.message, code=message.code)
            return
        flush.utterance_id = None
        if message.reason == NothingToSay.reason:
            flush.silent = True
        else:
            flush.failed = True
            yield from flush.fail(message.message, message.code)
        yield from self._done()

    def _done(self) -> Iterator[Frame]:
        """In the order of the flushes, however they ended."""
        while self._flushes and self._flushes[0].finished and self._flushes[0].utterance_id is None:
            yield from self._flushes[0].end_silent()
            flush = self._flushes.pop(0)
            yield answer("session.done", utterance_index=flush.index, total_sentences=flush.sentences)

    def _flush_of(self, utterance_id: str | None) -> OmniFlush | None:
        return next((one for one in self._flushes if utterance_id and one.utterance_id == utterance_id), None)


def omni_router(service: Service, look_up_voice: VoiceLookup) -> APIRouter:
    """``/v1/audio/speech/stream``."""
    router = APIRouter()

    @router.websocket("/v1/audio/speech/stream")
    async def speak(websocket: WebSocket) -> None:
        rate_hz = service.engine.facts.sample_rate_hz
        dialect = OmniDialect(look_up_voice, limits=service.limits, engine_rate_hz=rate_hz)
        await serve_websocket(websocket, service, dialect)

    return router
