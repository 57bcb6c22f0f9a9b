"""One utterance's life, from its first text to its one terminal message.

In: text, its turn, audio, endings. Out: effects. Does not know: the queue it waits in, other utterances.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from makima_tts.errors import Cancelled, InvalidText
from makima_tts.protocol import (
    AudioChunkMessage,
    AudioEnd,
    AudioFormat,
    Complete,
    Limits,
    Priority,
    Sentence,
    Speaking,
    Transport,
)
from makima_tts.protocol.formats import TextCleaning
from makima_tts.session.answers import error_message
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
from makima_tts.session.heard import Sounded, heard_until
from makima_tts.session.inputs import AudioReady, SpeechEnded, SpeechFailed
from makima_tts.session.tables import (
    UTTERANCE_TABLE,
    Append,
    Begin,
    FlushText,
    Silence,
    Stalled,
    UtteranceInput,
    UtteranceState,
)
from makima_tts.text import NOTHING_SPOKEN, Piece, Segmenter, clean, spoken_of, why_silent

_SPEAKING = (UtteranceState.SPEAKING_OPEN, UtteranceState.SPEAKING_CLOSED)
_OPEN = (UtteranceState.OPEN, UtteranceState.SPEAKING_OPEN)

Outcome = Literal["complete", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a session wants to hear: fixed while anything is pending."""

    format: AudioFormat = field(default_factory=AudioFormat)
    transport: Transport = "binary"
    events: bool = False
    page: bool = True
    voice: str | None = None
    language: str = "English"
    text_cleaning: TextCleaning = "markdown"


@dataclass(slots=True)
class _Sent:
    """What was sent so far."""

    samples: int = 0
    chunks: int = 0
    source_ms: float = 0.0
    synthesis_s: float = 0.0
    first_ms: int | None = None
    last_ms: int = 0
    # Where its pieces ended.
    ends_ms: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Utterance:
    """``receive`` answers by the table; ``priority`` then ``order`` is its place in the queue."""

    id: str
    manner: Manner
    limits: Limits
    priority: Priority
    order: int
    voice: str | None
    language: str
    seed: int | None
    accepted_ms: int
    state: UtteranceState = UtteranceState.OPEN
    outcome: Outcome | None = None
    head_ms: int | None = None
    _text: str = field(default="", repr=False)
    _segmenter: Segmenter = field(init=False, repr=False)
    _pieces: list[Piece] = field(default_factory=list, repr=False)
    # Whole pieces; and of the next one so many characters.
    _fed: int = 0
    _fed_chars: int = 0
    _text_ms: int = 0
    _waits_since_ms: int = 0
    _sent: _Sent = field(default_factory=_Sent)

    def __post_init__(self) -> None:
        self._segmenter = Segmenter(self.manner.text_cleaning)

    def receive(self, event: UtteranceInput, now_ms: int) -> list[Effect]:
        """Effects of one input; none where the table has no cell (late reports of what is over)."""
        cell = UTTERANCE_TABLE[self.state].get(type(event))
        return [] if cell is None else _CELLS[cell.method](self, event, now_ms)

    def accepts(self, event: type[Append]) -> bool:
        return event in UTTERANCE_TABLE[self.state]

    @property
    def text_length(self) -> int:
        return len(self._text)

    @property
    def over(self) -> bool:
        return self.state is UtteranceState.ENDED

    @property
    def speaking(self) -> bool:
        return self.state in _SPEAKING

    @property
    def has_speech(self) -> bool:
        """Whether there is a piece, or a part of one, to begin with."""
        return bool(self._pieces or self._segmenter.growing)

    def reach_head(self, now_ms: int) -> None:
        """It is next; TTFA counts from here."""
        if self.head_ms is None:
            self.head_ms = now_ms

    def leave_head(self) -> None:
        """One of higher priority came before its first word."""
        self.head_ms = None

    def stall_at_ms(self) -> int | None:
        """When a writer's silence closes it; None once its text is closed."""
        return self._text_ms + self.limits.max_text_stall_ms if self.state in _OPEN else None

    def timeout_at_ms(self) -> int | None:
        """When a piece that was given to the engine has waited too long for audio; None if none waits.

        One that its writer has not finished may wait: that is what maxTextStallMs is for.
        """
        if not self.speaking or len(self._sent.ends_ms) >= self._fed:
            return None
        return self._waits_since_ms + self.limits.utterance_timeout_ms

    # Cells, in the order of a life

    def append(self, event: Append, now_ms: int) -> list[Effect]:
        self._text_ms = now_ms
        if self._is_too_long(event.text):
            return self._reject(
                f"A message may hold {self.limits.max_text_chars} characters; send less.", now_ms
            )
        if len(self._text) + len(event.text) > self.limits.max_utterance_chars:
            return self._reject(
                f"An utterance may hold {self.limits.max_utterance_chars} characters; begin a new one.",
                now_ms,
            )
        self._text += event.text
        self._pieces += self._segmenter.feed(event.text)
        return self.close(event, now_ms) if event.final else self._feed(now_ms)

    def flush(self, event: FlushText, now_ms: int) -> list[Effect]:
        self._pieces += self._segmenter.flush()
        return self._feed(now_ms)

    def close(self, event: Append | Stalled, now_ms: int) -> list[Effect]:
        self._pieces += self._segmenter.finish()
        if not self._pieces:
            return self._reject(why_silent(self._text), now_ms)
        if self.speaking:
            self.state = UtteranceState.SPEAKING_CLOSED
            return [*self._feed(now_ms), FinishText(self.id)]
        self.state = UtteranceState.CLOSED
        return []

    def begin(self, event: Begin, now_ms: int) -> list[Effect]:
        closed = self.state is UtteranceState.CLOSED
        self.state = UtteranceState.SPEAKING_CLOSED if closed else UtteranceState.SPEAKING_OPEN
        start = StartSpeech(self.id, self.voice, self.language, self.seed, self.manner.format)
        return [start, *self._feed(now_ms), *([FinishText(self.id)] if closed else [])]

    def sound(self, event: AudioReady, now_ms: int) -> list[Effect]:
        sent = self._sent
        effects = self._send(event.data, now_ms) if event.samples else []
        sent.samples += event.samples
        sent.source_ms += event.source_ms
        sent.synthesis_s += event.synthesis_s
        self._waits_since_ms = now_ms
        if event.samples:
            sent.last_ms = now_ms
        return effects + (self._end_piece(event.piece_index) if event.ends_piece else [])

    def complete(self, event: SpeechEnded, now_ms: int) -> list[Effect]:
        if self._sent.first_ms is None:
            return self._reject(NOTHING_SPOKEN, now_ms)
        effects: list[Effect] = []
        if self.manner.transport == "json":
            effects.append(self._audio(b"", is_final=True))
        effects.append(Send(self._completion(event.reason)))
        if self.manner.page:
            effects.append(self._audio_end())
        return effects + self._end("complete", "complete")

    def silence(self, event: Silence, now_ms: int) -> list[Effect]:
        effects: list[Effect] = [CancelSpeech(self.id)] if self.speaking else []
        if self.manner.page:
            effects.append(self._audio_end())
        else:
            message = error_message(Cancelled("The utterance was cancelled."), self.id)
            heard = {"audio_ms": self._audio_ms(), "played_ms": event.played_ms}
            effects.append(Send(message.model_copy(update=heard | self._texts_heard(event.played_ms))))
        return effects + self._end("cancelled", Cancelled.code)

    def fail(self, event: SpeechFailed, now_ms: int) -> list[Effect]:
        effects: list[Effect] = [CancelSpeech(self.id)] if self.speaking else []
        effects.append(Send(error_message(event.error, self.id)))
        return effects + self._end("failed", event.error.code)

    def ignore(self, event: UtteranceInput, now_ms: int) -> list[Effect]:
        return []

    # What the cells are made of

    def _is_too_long(self, message: str) -> bool:
        """What is only for eyes does not count, so far as a message shows by itself what that is."""
        limit = self.limits.max_text_chars
        if len(clean(message)) <= limit:
            return False
        return len(clean(spoken_of(message, self.manner.text_cleaning).text)) > limit

    def _reject(self, why: str, now_ms: int) -> list[Effect]:
        return self.fail(SpeechFailed(self.id, InvalidText(why)), now_ms)

    def _feed(self, now_ms: int) -> list[Effect]:
        """What became certain, if it is its turn."""
        if not self.speaking:
            return []
        fresh = self._pieces[self._fed :]
        if fresh and len(self._sent.ends_ms) >= self._fed:
            self._waits_since_ms = now_ms
        self._fed = len(self._pieces)
        effects: list[Effect] = []
        for piece in fresh:
            effects.append(FeedPiece(self.id, piece.text[self._fed_chars :]))
            self._fed_chars = 0
        return effects + self._feed_part()

    def _feed_part(self) -> list[Effect]:
        """What is certain of a piece that is still being written."""
        part = self._segmenter.growing[self._fed_chars :]
        if not part or self.state is not UtteranceState.SPEAKING_OPEN:
            return []
        self._fed_chars += len(part)
        return [FeedPiece(self.id, part, ends_piece=False)]

    def _send(self, data: bytes, now_ms: int) -> list[Effect]:
        first = self._sent.first_ms is None
        if first:
            self._sent.first_ms = now_ms
        effects = [*(self._announce() if first else []), self._audio(data, is_final=False)]
        self._sent.chunks += 1
        return effects

    def _announce(self) -> list[Effect]:
        if not self.manner.events:
            return []
        shape = self.manner.format
        return [
            Send(
                Speaking(
                    utterance_id=self.id,
                    sample_rate=shape.sample_rate_hz,
                    encoding=shape.encoding,
                    queue_ms=self._queue_ms(),
                )
            )
        ]

    def _audio(self, data: bytes, *, is_final: bool) -> Effect:
        if self.manner.transport == "binary":
            return SendAudio(data)
        position_ms = self._sent.samples * 1000 / self.manner.format.sample_rate_hz
        return Send(
            AudioChunkMessage(
                utterance_id=self.id,
                data=base64.b64encode(data).decode(),
                sequence_number=self._sent.chunks + 1,
                is_final=is_final,
                timestamp_ms=round(position_ms),
                timestamp=round(position_ms / 1000, 6),
            )
        )

    def _end_piece(self, index: int) -> list[Effect]:
        sent, piece = self._sent, self._pieces[index]
        start_ms = sent.ends_ms[-1] if sent.ends_ms else 0.0
        sent.ends_ms.append(sent.source_ms)
        if not self.manner.events:
            return []
        return [
            Send(
                Sentence(
                    utterance_id=self.id,
                    index=index,
                    text=self._text[piece.start : piece.end].strip(),
                    start_ms=round(start_ms),
                    end_ms=round(sent.source_ms),
                )
            )
        ]

    def _completion(self, reason: Literal["stop", "length"]) -> Complete:
        sent = self._sent
        return Complete(
            utterance_id=self.id,
            duration_ms=sent.last_ms - self.accepted_ms,
            audio_length_ms=self._audio_ms(),
            characters_processed=len(self._text) if reason == "stop" else self._chars_ended(),
            text_length=len(self._text),
            total_chunks=sent.chunks,
            ttfa_ms=self._ttfa_ms() or 0,
            queue_ms=self._queue_ms(),
            rtf=self._rtf() or 0.0,
            finish_reason=reason,
        )

    def _chars_ended(self) -> int:
        ended = len(self._sent.ends_ms)
        return self._pieces[ended - 1].end if ended else 0

    def _texts_heard(self, played_ms: int | None) -> dict[str, str]:
        """For newer clients: what was heard of the text, and what was not."""
        if not self.manner.events:
            return {}
        sounded = Sounded(self._sent.ends_ms, self._sent.source_ms, self.manner.format.speed)
        pieces = [*self._pieces, *self._growing_piece()]
        spoken = spoken_of(self._text, self.manner.text_cleaning)
        place = heard_until(spoken, pieces, sounded, played_ms, self.language)
        return {"text_spoken": self._text[:place], "text_remaining": self._text[place:]}

    def _growing_piece(self) -> list[Piece]:
        """What was fed of a piece that is still being written."""
        begin = self._pieces[-1].end if self._pieces else 0
        text = self._segmenter.growing[: self._fed_chars]
        return [Piece(len(self._pieces), text, begin, len(self._text))] if text else []

    def _audio_end(self) -> Effect:
        return Send(AudioEnd(sample_rate=self.manner.format.sample_rate_hz))

    def _end(self, outcome: Outcome, reported: str) -> list[Effect]:
        queue_ms = None if self.head_ms is None else self._queue_ms()
        self.state, self.outcome = UtteranceState.ENDED, outcome
        return [UtteranceEnded(reported, self._audio_ms(), queue_ms, self._ttfa_ms(), self._rtf())]

    def _audio_ms(self) -> int:
        return self.manner.format.duration_ms(self._sent.samples)

    def _queue_ms(self) -> int:
        return 0 if self.head_ms is None else self.head_ms - self.accepted_ms

    def _ttfa_ms(self) -> int | None:
        if self._sent.first_ms is None or self.head_ms is None:
            return None
        return self._sent.first_ms - self.head_ms

    def _rtf(self) -> float | None:
        sent = self._sent
        return round(sent.synthesis_s * 1000 / sent.source_ms, 4) if sent.source_ms else None


_CELLS: dict[str, Callable[..., list[Effect]]] = {
    cell.method: getattr(Utterance, cell.method) for row in UTTERANCE_TABLE.values() for cell in row.values()
}
