"""vLLM-Omni's WebSocket for speech from growing text, as a way to speak to a session.

In: session.config, input.text, input.done, session.close; a session's messages and audio. Out: inputs of a
session; audio.start, binary audio, audio.done, session.done, error. Does not know: sockets, engines.

A *flush* is all text up to an input.done, and an utterance of the session. Their server answers one message
after the other; here the next flush may be written while one is spoken.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator

from makima_tts.api.native.dialects import NOT_TEXT
from makima_tts.api.native.outbox import Frame
from makima_tts.api.omni.flush import OmniFlush, answer
from makima_tts.api.omni.messages import (
    InputDone,
    InputText,
    OmniMessage,
    SessionClose,
    SessionConfig,
    parse_omni_message,
)
from makima_tts.errors import InvalidMessage
from makima_tts.protocol import (
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
from makima_tts.session import FeedPiece, Malformed, Send, SendAudio, SessionInput

# Audio that is sent as one is held until it is whole: some six minutes of it.
MAX_WHOLE_CHARS = 5000
# More than a session queues; an empty flush waits without being queued.
MAX_FLUSHES = 100
_TOO_LONG_AS_ONE = (
    f"Audio in one piece is for at most {MAX_WHOLE_CHARS} characters; set split_granularity to sentence, or "
    "stream_audio to true."
)


class OmniDialect:
    """``find_voice``: whom a client means by a name. ``limits``: the session's."""

    events = True

    def __init__(
        self,
        find_voice: Callable[[str | None], Awaitable[str | None]],
        *,
        limits: Limits,
        engine_rate_hz: int,
    ) -> None:
        self._find_voice = find_voice
        self._limits = limits
        self._engine_rate_hz = engine_rate_hz
        self._config: SessionConfig | None = None
        # Those that have no session.done yet. The first is the one that is heard, the last may be unwritten.
        self._flushes: list[OmniFlush] = []
        self._flush_count = 0
        self._utterance_count = 0

    @property
    def listens(self) -> bool:
        return self._config is not None and self._config.stream_audio

    def read(self, text: str | None) -> Iterable[SessionInput | Frame]:
        if text is None:
            return [NOT_TEXT]
        try:
            message = parse_omni_message(text)
        except InvalidMessage as error:
            return [Malformed(error.message), *([Stop()] if self._config is None else [])]
        return self._obey(message)

    def write(self, effect: Send | SendAudio) -> Iterable[Frame]:
        if isinstance(effect, SendAudio):
            return self._flushes[0].hear(effect.data)
        return self._told(effect.message)

    def feed(self, effect: FeedPiece) -> FeedPiece | None:
        """A sentence's text goes before its audio, so it is spoken once it is whole."""
        flush = self._spoken_as(effect.utterance_id)
        piece = flush.add(effect.text, ends_piece=effect.ends_piece) if flush else None
        return None if piece is None else FeedPiece(effect.utterance_id, piece)

    async def library_voice(self, asked: str | None) -> str | None:
        return await self._find_voice(asked)

    # The client

    def _obey(self, message: OmniMessage) -> Iterator[SessionInput | Frame]:
        match message:
            case SessionConfig():
                yield from self._configure(message)
            case SessionClose():
                yield Stop()
            case _ if self._config is None:
                yield Malformed("The first message must be session.config.")
                yield Stop()
            case _ if self._begins_flush and len(self._flushes) >= MAX_FLUSHES:
                yield Malformed("Too many flushes wait to be heard; wait for session.done.")
            case InputText():
                yield from self._add_text(self._written_flush(self._config), message.text)
            case InputDone():
                yield from self._end_text(self._written_flush(self._config))

    def _configure(self, config: SessionConfig) -> Iterator[SessionInput]:
        if self._flushes:
            yield Malformed("session.config is for between two flushes; wait for session.done.")
            return
        self._config = config
        yield Start(language=config.language, speed=config.speed, events=True)

    @property
    def _begins_flush(self) -> bool:
        return not self._flushes or self._flushes[-1].written

    def _written_flush(self, config: SessionConfig) -> OmniFlush:
        if self._begins_flush:
            self._flushes.append(OmniFlush(self._flush_count, config, engine_rate_hz=self._engine_rate_hz))
            self._flush_count += 1
        return self._flushes[-1]

    def _add_text(self, flush: OmniFlush, text: str) -> Iterator[SessionInput | Frame]:
        if flush.failed or not text:
            return
        if not flush.as_one:
            yield from self._speak(flush, text, final=False)
            return
        flush.text += text
        too_long = self._too_long_as_one(flush)
        if too_long is not None:
            flush.failed, flush.text = True, ""
            yield answer("error", message=too_long)

    def _too_long_as_one(self, flush: OmniFlush) -> str | None:
        """It is held until it is written."""
        limit_chars = self._limits.max_utterance_chars
        if not flush.streams and len(flush.text) > MAX_WHOLE_CHARS:
            return _TOO_LONG_AS_ONE
        if len(flush.text) > limit_chars:
            return f"A flush may hold {limit_chars} characters; send input.done before, or split_granularity."
        return None

    def _end_text(self, flush: OmniFlush) -> Iterator[SessionInput | Frame]:
        flush.written = True
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

    def _told(self, message: ServerMessage) -> Iterator[Frame]:
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
        flush = self._spoken_as(message.utterance_id)
        if flush is None:
            yield answer("error", message=message.message, code=message.code)
            return
        flush.failed, flush.utterance_id = True, None
        yield from flush.fail(message.message, message.code)
        yield from self._done()

    def _done(self) -> Iterator[Frame]:
        """In the order of the flushes, however they ended."""
        while self._flushes and self._flushes[0].over:
            yield self._flushes.pop(0).done()

    def _spoken_as(self, utterance_id: str | None) -> OmniFlush | None:
        return next((one for one in self._flushes if utterance_id and one.utterance_id == utterance_id), None)
