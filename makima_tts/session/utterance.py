"""One utterance, from its first text to its one terminal message.

In: text, cancels, the time, reports of the engine. Out: effects. Does not know: the queue, other utterances.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from makima_tts.errors import Cancelled, InvalidText, NothingToSay, TtsError, UtteranceTimeout
from makima_tts.protocol import (
    AudioChunkMessage,
    AudioEnd,
    AudioFormat,
    Cancel,
    Complete,
    ErrorMessage,
    Flush,
    Limits,
    Sentence,
    Speak,
    Speaking,
    TimedWord,
    Timings,
    Transport,
    Words,
)
from makima_tts.protocol.fields import SurrogateJoiner
from makima_tts.protocol.messages import TextCleaning
from makima_tts.session.effects import (
    CancelSpeech,
    Effect,
    FeedPiece,
    FinishText,
    Send,
    SendAudio,
    StartSpeech,
    UtteranceEnded,
)
from makima_tts.session.inputs import AudioReady, SpeechEnded, SpeechFailed, Tick
from makima_tts.session.tables import Cell, Step, on
from makima_tts.text import NOTHING_SPOKEN, clean, exceeds, nothing_to_say
from makima_tts.text.durations import played_position
from makima_tts.text.segmenter import Piece, Segmenter, spoken_text
from makima_tts.text.words import WordTime
from makima_tts.timings import position_after, timed_words


class UtteranceState(StrEnum):
    """OPEN and CLOSED wait in the queue; text may still be appended to an open one."""

    OPEN = "open"
    CLOSED = "closed"
    SPEAKING_OPEN = "speaking open"
    SPEAKING_CLOSED = "speaking closed"
    ENDED = "ended"


class Begin(NamedTuple):
    """The utterance is the head of the queue, and nothing else is speaking."""


U = UtteranceState
UtteranceInput = Speak | Flush | Cancel | Begin | Tick | AudioReady | SpeechEnded | SpeechFailed
UtteranceStep = Step[UtteranceState]
# "retryable" frees the id at once, "unfinished" once the rest of its text was dropped.
Outcome = Literal["complete", "failed", "cancelled", "unfinished", "retryable"]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What ``start`` sets, or its defaults; fixed while an utterance is pending. ``page``: no ``start``."""

    format: AudioFormat = field(default_factory=AudioFormat)
    transport: Transport = "binary"
    events: bool = False
    page: bool = True
    language: str = "English"
    text_cleaning: TextCleaning = "markdown"
    timings: Timings = "none"


@dataclass(slots=True)
class SentAudio:
    """Counts of one utterance; ``piece_ends_ms``: where its first pieces ended in the audio.

    ``words``: those whose times the client knows.
    """

    samples: int = 0
    chunks: int = 0
    source_ms: float = 0.0
    synthesis_s: float = 0.0
    first_ms: int | None = None
    last_ms: int = 0
    piece_ends_ms: list[float] = field(default_factory=list)
    words: list[TimedWord] = field(default_factory=list)

    def rtf(self) -> float | None:
        return round(self.synthesis_s * 1000 / self.source_ms, 4) if self.source_ms else None


@dataclass(slots=True)
class Utterance:
    """``request`` is its first message; ``order`` counts utterances, for the queue."""

    id: str
    request: Speak
    options: SessionOptions
    limits: Limits
    order: int
    accepted_ms: int
    state: UtteranceState = U.OPEN
    outcome: Outcome | None = None
    # When it became the head of the queue; the time to first audio counts from here.
    head_ms: int | None = None
    _text: str = field(default="", repr=False)
    _joiner: SurrogateJoiner = field(default_factory=SurrogateJoiner, repr=False)
    _segmenter: Segmenter = field(init=False, repr=False)
    _pieces: list[Piece] = field(default_factory=list, repr=False)
    # Given to the engine: so many whole pieces, and so many characters of the next one.
    _fed: int = 0
    _fed_chars: int = 0
    _last_text_ms: int = 0
    # When a pause of the writer settles the sentences that have ended; None once it has.
    _settle_at_ms: int | None = None
    # Since when the engine has text and sends no audio.
    _waits_since_ms: int = 0
    _sent: SentAudio = field(default_factory=SentAudio)

    def __post_init__(self) -> None:
        self._segmenter = Segmenter(self.options.text_cleaning, self.language)

    def receive(self, event: UtteranceInput, now_ms: int) -> list[Effect]:
        """Effects of one input, in order."""
        cell = UTTERANCE_TABLE[self.state].get(type(event))
        if cell is None:
            return []
        effects, following = cell.method(self, event, now_ms)
        self.state = cell.check(self.state, following)
        return effects

    @property
    def accepts_text(self) -> bool:
        return Speak in UTTERANCE_TABLE[self.state]

    @property
    def text_length(self) -> int:
        return len(self._text)

    @property
    def speaking(self) -> bool:
        return self.state in (U.SPEAKING_OPEN, U.SPEAKING_CLOSED)

    @property
    def has_speech(self) -> bool:
        """Whether there is a piece, or the beginning of one, for the engine."""
        return bool(self._pieces or self._segmenter.partial_text)

    @property
    def language(self) -> str:
        return self.request.language or self.options.language

    def stall_at_ms(self) -> int | None:
        """When the text is closed if none follows; None once it is closed."""
        return self._last_text_ms + self.limits.max_text_stall_ms if self.accepts_text else None

    def settle_at_ms(self) -> int | None:
        """When the sentences that have ended are cut if no text follows; None once they are."""
        return self._settle_at_ms if self.accepts_text else None

    def timeout_at_ms(self) -> int | None:
        """When a piece that the engine has waited for audio too long; None if none waits.

        A piece whose text is not finished may wait: that is what maxTextStallMs is for.
        """
        if not self.speaking or len(self._sent.piece_ends_ms) >= self._fed:
            return None
        return self._waits_since_ms + self.limits.utterance_timeout_ms

    # Methods of cells, in the order of a life

    def append(self, event: Speak, now_ms: int) -> UtteranceStep:
        self._last_text_ms, self._settle_at_ms = now_ms, now_ms + self.limits.text_idle_ms
        text, spoken_before = self._joiner.feed(event.text), self._segmenter.spoken_chars
        self._add(text)
        if self._is_too_long(text, self._segmenter.spoken_chars - spoken_before):
            return self._reject(f"A message may hold {self.limits.max_text_chars} characters; send less.")
        if exceeds(self.limits.max_utterance_chars, self.text_length, self._segmenter.left_out_chars):
            return self._reject(
                f"An utterance may hold {self.limits.max_utterance_chars} characters; begin a new one."
            )
        return self._close(now_ms) if event.final else (self._feed_if_speaking(now_ms), self.state)

    def flush(self, event: Flush, now_ms: int) -> UtteranceStep:
        self._pieces += self._segmenter.flush()
        return self._feed_if_speaking(now_ms), self.state

    def begin(self, event: Begin, now_ms: int) -> UtteranceStep:
        closed = self.state is U.CLOSED
        request = self.request
        timings = (request.timings or self.options.timings) == "word"
        start = StartSpeech(self.id, request.voice, self.language, request.seed, self.options.format, timings)
        effects = [start, *self._feed(now_ms), *([FinishText(self.id)] if closed else [])]
        return effects, U.SPEAKING_CLOSED if closed else U.SPEAKING_OPEN

    def send_audio(self, event: AudioReady, now_ms: int) -> UtteranceStep:
        sent = self._sent
        effects = self._begin_audio(now_ms) if event.samples else []
        effects += self._send_words(event.words)
        if not (event.data or event.source_ms or event.ends_piece):
            return effects, self.state
        if event.samples:
            effects.append(self._audio(event.data, is_final=False))
            sent.chunks += 1
            sent.last_ms = now_ms
        sent.samples += event.samples
        sent.source_ms += event.source_ms
        sent.synthesis_s += event.synthesis_s
        self._waits_since_ms = now_ms
        return effects + (self._end_piece(event.piece_index) if event.ends_piece else []), self.state

    def tick(self, event: Tick, now_ms: int) -> UtteranceStep:
        effects, state = self._settle(now_ms) if due(self.settle_at_ms(), now_ms) else [], self.state
        if due(self.stall_at_ms(), now_ms):
            closed, state = self._close(now_ms)
            effects += closed
        if due(self.timeout_at_ms(), now_ms):
            failed, state = self._fail(UtteranceTimeout())
            effects += failed
        return effects, state

    def complete(self, event: SpeechEnded, now_ms: int) -> UtteranceStep:
        if self._sent.first_ms is None:
            return self._fail(NothingToSay(NOTHING_SPOKEN))
        effects: list[Effect] = []
        if self.options.transport == "json":
            effects.append(self._audio(b"", is_final=True))
        effects.append(Send(self._completion(event.reason, event.warning)))
        if self.options.page:
            effects.append(self._audio_end())
        return effects + self._end("complete", "complete"), U.ENDED

    def cancel(self, event: Cancel, now_ms: int) -> UtteranceStep:
        effects: list[Effect] = [CancelSpeech(self.id)] if self.speaking else []
        if self.options.page:
            effects.append(self._audio_end())
        else:
            message = ErrorMessage.of(Cancelled("The utterance was cancelled."), self.id)
            figures = {"audio_ms": self._audio_ms(), "played_ms": event.played_ms}
            effects.append(Send(message.model_copy(update=figures | self._texts_played(event.played_ms))))
        return effects + self._end("cancelled", Cancelled.code), U.ENDED

    def fail(self, event: SpeechFailed, now_ms: int) -> UtteranceStep:
        return self._fail(event.error)

    # Steps that several cells share

    def _settle(self, now_ms: int) -> list[Effect]:
        self._settle_at_ms = None
        self._pieces += self._segmenter.settle()
        return self._feed_if_speaking(now_ms)

    def _is_too_long(self, message: str, spoken_chars: int) -> bool:
        """Marks, reasoning and what else is not spoken do not count."""
        limit = self.limits.max_text_chars
        return spoken_chars > limit and len(clean(message)) > limit

    def _add(self, text: str) -> None:
        self._text += text
        self._pieces += self._segmenter.feed(text)

    def _close(self, now_ms: int) -> UtteranceStep:
        self._add(self._joiner.end())
        self._pieces += self._segmenter.flush()
        if not self._pieces:
            return self._fail(nothing_to_say(self._text))
        if self.speaking:
            return [*self._feed(now_ms), FinishText(self.id)], U.SPEAKING_CLOSED
        return [], U.CLOSED

    def _reject(self, why: str) -> UtteranceStep:
        return self._fail(InvalidText(why))

    def _fail(self, error: TtsError) -> UtteranceStep:
        effects: list[Effect] = [CancelSpeech(self.id)] if self.speaking else []
        effects.append(Send(ErrorMessage.of(error, self.id)))
        retryable: Outcome = "unfinished" if self.accepts_text else "retryable"
        return effects + self._end(retryable if error.recoverable else "failed", error.code), U.ENDED

    def _end(self, outcome: Outcome, reported: str) -> list[Effect]:
        self.outcome = outcome
        queue_ms = None if self.head_ms is None else self._queue_ms()
        return [UtteranceEnded(reported, self._audio_ms(), queue_ms, self._ttfa_ms(), self._sent.rtf())]

    # Text to the engine

    def _feed_if_speaking(self, now_ms: int) -> list[Effect]:
        return self._feed(now_ms) if self.speaking else []

    def _feed(self, now_ms: int) -> list[Effect]:
        """Text that no later text can change: whole pieces, then the beginning of the next one."""
        fresh = self._pieces[self._fed :]
        if fresh and len(self._sent.piece_ends_ms) >= self._fed:
            self._waits_since_ms = now_ms
        self._fed = len(self._pieces)
        effects: list[Effect] = []
        for piece in fresh:
            effects.append(FeedPiece(self.id, piece.text[self._fed_chars :]))
            self._fed_chars = 0
        partial = self._segmenter.partial_text[self._fed_chars :]
        self._fed_chars += len(partial)
        return [*effects, FeedPiece(self.id, partial, ends_piece=False)] if partial else effects

    # Audio and messages to the client

    def _begin_audio(self, now_ms: int) -> list[Effect]:
        if self._sent.first_ms is not None:
            return []
        self._sent.first_ms = now_ms
        return [Send(self._speaking_message())] if self.options.events else []

    def _send_words(self, times: Sequence[WordTime]) -> list[Effect]:
        if not times:
            return []
        words = timed_words(self._text, [*self._pieces, *self._partial_piece()], times)
        self._sent.words += words
        return [Send(Words(utterance_id=self.id, words=words))]

    def _speaking_message(self) -> Speaking:
        audio, queue_ms = self.options.format, self._queue_ms()
        return Speaking(
            utterance_id=self.id, sample_rate=audio.sample_rate_hz, encoding=audio.encoding, queue_ms=queue_ms
        )

    def _audio(self, data: bytes, *, is_final: bool) -> Effect:
        if self.options.transport == "binary":
            return SendAudio(data)
        position_ms = self._sent.samples * 1000 / self.options.format.sample_rate_hz
        chunk = AudioChunkMessage(
            utterance_id=self.id,
            data=base64.b64encode(data).decode(),
            sequence_number=self._sent.chunks + 1,
            is_final=is_final,
            timestamp_ms=round(position_ms),
            timestamp=round(position_ms / 1000, 6),
        )
        return Send(chunk)

    def _end_piece(self, index: int) -> list[Effect]:
        ends_ms, piece = self._sent.piece_ends_ms, self._pieces[index]
        start_ms = ends_ms[-1] if ends_ms else 0.0
        ends_ms.append(self._sent.source_ms)
        if not self.options.events:
            return []
        sentence = Sentence(
            utterance_id=self.id,
            index=index,
            text=self._segmenter.without_left_out(self._text, piece),
            start_ms=round(start_ms),
            end_ms=round(ends_ms[-1]),
        )
        return [Send(sentence)]

    def _completion(self, reason: Literal["stop", "length"], warning: str | None) -> Complete:
        sent, ended = self._sent, len(self._sent.piece_ends_ms)
        chars_ended = self._pieces[ended - 1].end if ended else 0
        return Complete(
            utterance_id=self.id,
            duration_ms=sent.last_ms - self.accepted_ms,
            audio_length_ms=self._audio_ms(),
            characters_processed=len(self._text) if reason == "stop" else chars_ended,
            text_length=len(self._text),
            total_chunks=sent.chunks,
            ttfa_ms=self._ttfa_ms() or 0,
            queue_ms=self._queue_ms(),
            rtf=sent.rtf() or 0.0,
            finish_reason=reason,
            warning=warning,
        )

    def _texts_played(self, played_ms: int | None) -> dict[str, str]:
        """For clients with events: the text that was played, and the rest."""
        if not self.options.events:
            return {}
        words, sent_ms = self._sent.words, self._sent.source_ms
        heard_ms = sent_ms if played_ms is None else played_ms
        position = position_after(self._text, words, heard_ms)
        if not words or heard_ms > words[-1].end_ms:
            position = max(position, self._usual_position(played_ms))
        return {"text_spoken": self._text[:position], "text_remaining": self._text[position:]}

    def _usual_position(self, played_ms: int | None) -> int:
        return played_position(
            spoken_text(self._text, self.options.text_cleaning, self.language),
            [*self._pieces, *self._partial_piece()],
            self._sent.piece_ends_ms,
            played_ms=played_ms,
            sent_ms=self._sent.source_ms,
            speed=self.options.format.speed,
            language=self.language,
        )

    def _partial_piece(self) -> list[Piece]:
        """What the engine has of a piece whose text is not finished."""
        begin = self._pieces[-1].end if self._pieces else 0
        text = self._segmenter.partial_text[: self._fed_chars]
        spoken = self._segmenter.partial_spoken
        return [Piece(len(self._pieces), text, begin, len(self._text), spoken)] if text else []

    def _audio_end(self) -> Effect:
        return Send(AudioEnd(sample_rate=self.options.format.sample_rate_hz))

    def _audio_ms(self) -> int:
        return self.options.format.duration_ms(self._sent.samples)

    def _queue_ms(self) -> int:
        return 0 if self.head_ms is None else self.head_ms - self.accepted_ms

    def _ttfa_ms(self) -> int | None:
        if self._sent.first_ms is None or self.head_ms is None:
            return None
        return self._sent.first_ms - self.head_ms


def due(deadline_ms: int | None, now_ms: int) -> bool:
    return deadline_ms is not None and now_ms >= deadline_ms


UtteranceRow = dict[type, Cell[Utterance, UtteranceState]]
_ROW: UtteranceRow = on(Cancel, Utterance.cancel, U.ENDED) | on(SpeechFailed, Utterance.fail, U.ENDED)
_OPEN_ROW = _ROW | on(Flush, Utterance.flush)
_SPEAKING_ROW = on(AudioReady, Utterance.send_audio) | on(SpeechEnded, Utterance.complete, U.ENDED)

UTTERANCE_TABLE: dict[UtteranceState, UtteranceRow] = {
    U.OPEN: _OPEN_ROW
    | on(Speak, Utterance.append, U.CLOSED, U.ENDED)
    | on(Tick, Utterance.tick, U.CLOSED, U.ENDED)
    | on(Begin, Utterance.begin, U.SPEAKING_OPEN),
    U.CLOSED: _ROW | on(Begin, Utterance.begin, U.SPEAKING_CLOSED),
    U.SPEAKING_OPEN: _OPEN_ROW
    | _SPEAKING_ROW
    | on(Speak, Utterance.append, U.SPEAKING_CLOSED, U.ENDED)
    | on(Tick, Utterance.tick, U.SPEAKING_CLOSED, U.ENDED),
    U.SPEAKING_CLOSED: _ROW | _SPEAKING_ROW | on(Tick, Utterance.tick, U.ENDED),
    U.ENDED: {},
}
