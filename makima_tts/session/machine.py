"""The conversation of one connection.

In: SessionInput and the time. Out: effects. Does not know: how a message is framed, which engine speaks, what
time it is. ``receive`` is total for what clients do: it never raises, and never waits.
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from typing import get_args

from makima_tts.errors import InvalidMessage, ModelLoading, RateLimited, TtsError, TtsUnavailable
from makima_tts.protocol import (
    PROTOCOL_VERSION,
    SAMPLE_RATES_HZ,
    Cancel,
    Capabilities,
    ClientMessage,
    ErrorMessage,
    Flush,
    Interrupted,
    Limits,
    Loading,
    Ping,
    Pong,
    Ready,
    ReadyLimits,
    Speak,
    Start,
    Started,
    Stop,
    Stopped,
)
from makima_tts.protocol.messages import ENCODINGS, PRIORITIES
from makima_tts.session import inputs
from makima_tts.session.effects import Close, Effect, JoinContract, LoadVoice, Send, UtteranceEnded, WakeAt
from makima_tts.session.inputs import SessionInput, SpeechFailed
from makima_tts.session.tables import Cell, Step, on
from makima_tts.session.utterance import Begin, Outcome, SessionOptions, Utterance, UtteranceInput, due


class UtteranceQueue:
    """``remembered``: so many outcomes are kept, to tell late text of an ended utterance from new text."""

    def __init__(self, remembered: int) -> None:
        self.waiting: list[Utterance] = []
        self.speaking: Utterance | None = None
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._remembered = remembered

    @property
    def pending(self) -> list[Utterance]:
        """The utterance that is speaking, then the waiting ones in the order in which they will speak."""
        waiting = sorted(self.waiting, key=lambda one: (PRIORITIES.index(one.request.priority), one.order))
        return [self.speaking, *waiting] if self.speaking else waiting

    def find(self, utterance_id: str | None) -> Utterance | None:
        return next((one for one in self.pending if one.id == utterance_id), None)

    def outcome_of(self, utterance_id: str | None) -> Outcome | None:
        return None if utterance_id is None else self._outcomes.get(utterance_id)

    def remember(self, utterance_id: str, outcome: Outcome) -> None:
        if outcome == "retryable":
            return
        self._outcomes[utterance_id] = outcome
        while len(self._outcomes) > self._remembered:
            self._outcomes.popitem(last=False)

    def drop(self, event: Speak) -> None:
        """Late text of an utterance that ended; the end of its text frees the id, if it may be retried."""
        if event.final and self.outcome_of(event.utterance_id) == "unfinished":
            del self._outcomes[str(event.utterance_id)]

    def deliver(self, utterance_id: str | None, event: UtteranceInput, now_ms: int) -> list[Effect]:
        """Give an input to a pending utterance, if there is one; an utterance that ends leaves the queue."""
        if (utterance := self.find(utterance_id)) is None:
            return []
        effects = utterance.receive(event, now_ms)
        if utterance.outcome is not None:
            self.remember(utterance.id, utterance.outcome)
            self.waiting = [one for one in self.waiting if one is not utterance]
            self.speaking = None if utterance is self.speaking else self.speaking
        return effects

    def begin_next(self, now_ms: int) -> list[Effect]:
        """Begin the head of the queue, if nothing is speaking and the head has text to speak."""
        if self.speaking is not None:
            return []
        head, *others = self.pending
        if head.head_ms is None:
            head.head_ms = now_ms
        for one in others:  # a head that did not begin may have been overtaken
            one.head_ms = None
        if not head.has_speech:
            return []
        self.waiting.remove(head)
        self.speaking = head
        return head.receive(Begin(), now_ms)

    def full(self, limit: int) -> RateLimited:
        """The error for a full queue; there is room again once the shortest text has been spoken."""
        shortest_s = 0.065 * min(one.text_length for one in self.pending)  # roughly how fast people speak
        return RateLimited(
            f"The queue is full ({limit} utterances); wait for one to end.",
            retry_after_s=max(1.0, shortest_s),
        )

    def cancel_all(self, played_ms: int | None, now_ms: int) -> list[Effect]:
        """Cancel everything; ``played_ms`` belongs to the utterance that is speaking."""
        effects: list[Effect] = []
        for one in self.pending:
            effects += self.deliver(one.id, Cancel(played_ms=played_ms if one.speaking else None), now_ms)
        return effects

    def fail_all(self, error: TtsError, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for one in self.pending:
            effects += self.deliver(one.id, SpeechFailed(one.id, error), now_ms)
        return effects


class SessionState(StrEnum):
    """READY: of a page. STARTED: of a client that sent ``start``. START_DEFERRED: ``start`` while loading.

    DRAINING: the service stops, and pending utterances may end.
    """

    LOADING = "loading"
    START_DEFERRED = "start deferred"
    READY = "ready"
    STARTING = "starting"
    STARTED = "started"
    SPEAKING = "speaking"
    DRAINING = "draining"
    STOPPED = "stopped"


S = SessionState
SessionStep = Step[SessionState]

_BEFORE_READY = (S.LOADING, S.START_DEFERRED)
_IDLE = (S.READY, S.STARTED)
_BUSY = (S.SPEAKING, S.DRAINING)
_CLIENT_MESSAGES = get_args(ClientMessage)
# Replies that wait for `ready`; a client that asks for more than this is abusive.
_MAX_BUFFERED_REPLIES = 100
_SHUTTING_DOWN = "The service is shutting down; connect again in a moment."
_LOADING_PERIOD_MS = 1000

CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_POLICY = 1000, 1001, 1008
CLOSE_INTERNAL, CLOSE_TRY_LATER, CLOSE_IDLE = 1011, 1013, 4408


class Session:
    """``ids`` names utterances that the client did not name; ``now_ms`` is any monotonic clock's."""

    def __init__(
        self, session_id: str, limits: Limits, ids: Iterator[str], *, now_ms: int, events: bool
    ) -> None:
        self.id = session_id
        self.state = S.LOADING
        self._limits = limits
        self._ids = ids
        self._options = SessionOptions(events=events, text_cleaning=limits.text_cleaning)
        self._queue = UtteranceQueue(limits.remembered_utterances)
        # Numbers accepted utterances.
        self._order = 0
        self._invalid_messages = 0
        self._deferred_start = Start()
        self._buffered_replies: list[Effect] = []
        self._began_ms = self._active_ms = now_ms
        self._drain_until_ms: int | None = None
        self._loading_sent_ms: int | None = None
        self._wake_ms: int | None = None

    @property
    def pending_count(self) -> int:
        """Utterances that have no terminal message yet."""
        return len(self._queue.pending)

    def receive(self, event: SessionInput, now_ms: int) -> list[Effect]:
        """The effects of one input, to be performed in order."""
        cell = SESSION_TABLE[self.state].get(type(event))
        if cell is None:
            return []
        if isinstance(event, _CLIENT_MESSAGES):
            self._active_ms = now_ms
        effects, state = cell.method(self, event, now_ms)
        effects, state = self._buffer_until_ready(*self._advance(effects, state, now_ms), now_ms)
        self.state = cell.check(self.state, state)
        return effects + self._wake()

    # Starting

    def send_loading(self, event: inputs.EngineLoading, now_ms: int) -> SessionStep:
        sent_ms = self._loading_sent_ms
        if not self._options.events or (sent_ms is not None and now_ms - sent_ms < _LOADING_PERIOD_MS):
            return [], self.state
        self._loading_sent_ms = now_ms
        return [Send(Loading(stage=event.stage, progress=event.progress))], self.state

    def defer_start(self, event: Start, now_ms: int) -> SessionStep:
        if self._queue.pending:
            return self.refuse_start(event, now_ms)
        self._deferred_start = event
        self._options = self._options_of(event)
        return [JoinContract(event.contract_id)], S.START_DEFERRED

    def send_ready(self, event: inputs.EngineReady, now_ms: int) -> SessionStep:
        self._active_ms = now_ms
        return [Send(self._ready(event)), *self._take_buffered()], S.READY

    def send_ready_and_start(self, event: inputs.EngineReady, now_ms: int) -> SessionStep:
        ready, _ = self.send_ready(event, now_ms)
        effects, state = self._start(self._deferred_start)
        return ready + effects, state

    def start(self, event: Start, now_ms: int) -> SessionStep:
        return self.refuse_start(event, now_ms) if self._queue.pending else self._start(event)

    def refuse_start(self, event: Start, now_ms: int) -> SessionStep:
        if self._draining:
            return [Send(ErrorMessage.of(TtsUnavailable(_SHUTTING_DOWN)))], self.state
        return self._invalid_message("`start` is only allowed while nothing is queued or speaking.", now_ms)

    def send_started(self, event: inputs.VoiceLoaded, now_ms: int) -> SessionStep:
        options = self._options
        started = Started(
            sample_rate=options.format.sample_rate_hz,
            encoding=options.format.encoding,
            voice=event.voice,
            language=options.language,
            warning=event.warning,
        )
        return [Send(started)], S.STARTED

    # Speaking

    def speak(self, event: Speak, now_ms: int) -> SessionStep:
        utterance = self._queue.find(event.utterance_id)
        outcome = self._queue.outcome_of(event.utterance_id)
        if utterance is not None and not utterance.accepts_text:
            why = "The text of this utteranceId is closed; use a new one."
            return self._invalid_message(why, now_ms, event.utterance_id)
        if utterance is not None:
            return self._queue.deliver(utterance.id, event, now_ms), self.state
        if outcome == "complete":
            why = "This utteranceId is complete; use a new one."
            return self._invalid_message(why, now_ms, event.utterance_id)
        if outcome is not None:
            self._queue.drop(event)
            return [], self.state
        return self._accept_or_refuse(event, now_ms), self.state

    def deliver(
        self, event: Flush | inputs.AudioReady | inputs.SpeechEnded | inputs.SpeechFailed, now_ms: int
    ) -> SessionStep:
        return self._queue.deliver(event.utterance_id, event, now_ms), self.state

    def cancel(self, event: Cancel, now_ms: int) -> SessionStep:
        if event.utterance_id is None:
            return self._queue.cancel_all(event.played_ms, now_ms), self.state
        return self._queue.deliver(event.utterance_id, event, now_ms), self.state

    def interrupt(self, event: inputs.Interrupt, now_ms: int) -> SessionStep:
        """``interrupted`` is about complete utterances too: seconds of their audio may wait in the client."""
        effects = self._queue.cancel_all(None, now_ms)
        return [*effects, Send(Interrupted())] if self._options.events else effects, self.state

    def pong(self, event: Ping, now_ms: int) -> SessionStep:
        return [Send(Pong(id=event.id))], self.state

    # Ending

    def stop(self, event: Stop, now_ms: int) -> SessionStep:
        return self._stop(event.reason, CLOSE_NORMAL, now_ms)

    def drain(self, event: inputs.Drain, now_ms: int) -> SessionStep:
        """Pending utterances may end first, even if their voice or the model is still loading."""
        if not self._draining:
            self._drain_until_ms = event.until_ms
        return [], self.state

    def disconnect(self, event: inputs.Disconnected, now_ms: int) -> SessionStep:
        effects = self._queue.cancel_all(None, now_ms)
        return [one for one in effects if not isinstance(one, Send)], S.STOPPED

    def fail_engine(self, event: inputs.EngineFailed, now_ms: int) -> SessionStep:
        return self._fail_all(TtsUnavailable(event.reason), CLOSE_INTERNAL, now_ms)

    def reject_malformed(self, event: inputs.Malformed, now_ms: int) -> SessionStep:
        return self._invalid_message(event.reason, now_ms, event.utterance_id)

    # Time

    def tick(self, event: inputs.Tick, now_ms: int) -> SessionStep:
        self._wake_ms = None
        effects = [
            effect for one in self._queue.pending for effect in self._queue.deliver(one.id, event, now_ms)
        ]
        more, state = self._stop_if_due(now_ms)
        return effects + more, state

    def _stop_if_due(self, now_ms: int) -> SessionStep:
        if due(self._drain_until_ms, now_ms):
            return self._stop_draining(now_ms)
        if due(self._load_deadline_ms(), now_ms):
            error = ModelLoading("The model is still loading; try again in a minute.")
            return self._fail_all(error, CLOSE_TRY_LATER, now_ms)
        if now_ms >= self._began_ms + self._limits.max_session_ms:
            return self._stop("session_limit", CLOSE_NORMAL, now_ms)
        if due(self._idle_deadline_ms(), now_ms):
            return self._stop("idle", CLOSE_NORMAL if self._options.page else CLOSE_IDLE, now_ms)
        return [], self.state

    def _load_deadline_ms(self) -> int | None:
        return self._began_ms + self._limits.load_timeout_ms if self.state in _BEFORE_READY else None

    def _idle_deadline_ms(self) -> int | None:
        return self._active_ms + self._limits.idle_timeout_ms if self.state in _IDLE else None

    def _wake(self) -> list[Effect]:
        """Ask for a Tick at the earliest deadline. A Tick that comes too early only asks again."""
        limit_ms = self._began_ms + self._limits.max_session_ms
        deadlines = [limit_ms, self._drain_until_ms, self._load_deadline_ms(), self._idle_deadline_ms()]
        for one in self._queue.pending:
            deadlines += [one.settle_at_ms(), one.stall_at_ms(), one.timeout_at_ms()]
        earliest_ms = min(deadline for deadline in deadlines if deadline is not None)
        asked_already = self._wake_ms is not None and self._wake_ms <= earliest_ms
        if self.state is S.STOPPED or asked_already:
            return []
        self._wake_ms = earliest_ms
        return [WakeAt(earliest_ms)]

    # The queue

    def _accept_or_refuse(self, event: Speak, now_ms: int) -> list[Effect]:
        if self._draining:
            return self._refuse(event, TtsUnavailable(_SHUTTING_DOWN))
        if len(self._queue.waiting) >= self._limits.max_queued_utterances:
            return self._refuse(event, self._queue.full(self._limits.max_queued_utterances))
        utterance = Utterance(
            id=event.utterance_id or self._fresh_id(),
            request=event,
            options=self._options,
            limits=self._limits,
            order=self._order,
            accepted_ms=now_ms,
        )
        effects = utterance.receive(event, now_ms)
        if utterance.outcome is not None:
            return self._without_fresh_id(event, effects)
        self._order += 1
        self._queue.waiting.append(utterance)
        return effects

    def _fresh_id(self) -> str:
        """An id that the client has not used itself."""
        return next(
            name for name in self._ids if not (self._queue.find(name) or self._queue.outcome_of(name))
        )

    def _without_fresh_id(self, event: Speak, effects: list[Effect]) -> list[Effect]:
        """Text that cannot be spoken was not accepted: the client does not know an id of the server's."""
        self._remember_unless_final(event, "failed")
        return [
            Send(effect.message.model_copy(update={"utterance_id": event.utterance_id}))
            if isinstance(effect, Send)
            else effect
            for effect in effects
        ]

    def _refuse(self, event: Speak, error: TtsError) -> list[Effect]:
        self._remember_unless_final(event, "unfinished")
        ended = UtteranceEnded(error.code, audio_ms=0, queue_ms=None, ttfa_ms=None, rtf=None)
        return [Send(ErrorMessage.of(error, event.utterance_id)), ended]

    def _remember_unless_final(self, event: Speak, outcome: Outcome) -> None:
        """The rest of a live text that was refused must not begin an utterance in mid-sentence."""
        if not event.final and event.utterance_id is not None:
            self._queue.remember(event.utterance_id, outcome)

    @property
    def _draining(self) -> bool:
        return self._drain_until_ms is not None

    # After every input

    def _advance(self, effects: list[Effect], state: SessionState, now_ms: int) -> SessionStep:
        """What follows from the queue: begin the next utterance, become idle, or stop when drained."""
        if state is S.STOPPED:
            return effects, state
        if self._draining and not self._queue.pending:
            more, state = self._stop_draining(now_ms)
            return effects + more, state
        if state not in (*_IDLE, *_BUSY):
            return effects, state
        if self._queue.pending:
            busy = S.DRAINING if self._draining else S.SPEAKING
            return effects + self._queue.begin_next(now_ms), busy
        if state in _BUSY:
            self._active_ms = now_ms
        return effects, S.READY if self._options.page else S.STARTED

    def _buffer_until_ready(self, effects: list[Effect], state: SessionState, now_ms: int) -> SessionStep:
        """`ready` is always the first message: only `loading` is sent before it."""
        if state not in _BEFORE_READY:
            return effects, state
        now: list[Effect] = []
        for effect in effects:
            waits = isinstance(effect, Send) and not isinstance(effect.message, Loading)
            (self._buffered_replies if waits else now).append(effect)
        if len(self._buffered_replies) > _MAX_BUFFERED_REPLIES:
            closing, state = self._close_for_abuse([], now_ms)
            return now + closing, state
        return now, state

    # Messages and closing

    def _ready(self, engine: inputs.EngineReady) -> Ready:
        audio = self._options.format
        return Ready(
            session_id=self.id,
            voice_loaded=engine.voice_loaded,
            capabilities=Capabilities(
                languages=engine.languages,
                encodings=ENCODINGS,
                sample_rates=SAMPLE_RATES_HZ,
                cloning=engine.cloning,
                text_streaming=engine.text_streaming,
            ),
            engine=engine.engine,
            model=engine.model,
            protocol_version=PROTOCOL_VERSION,
            limits=ReadyLimits.model_validate(self._limits, from_attributes=True),
            sample_rate=audio.sample_rate_hz,
            encoding=audio.encoding,
            voice=engine.voice,
        )

    def _options_of(self, start: Start) -> SessionOptions:
        return SessionOptions(
            format=start.format,
            transport=start.transport,
            events=start.events or self._options.events,
            page=False,
            language=start.language,
            text_cleaning=start.text_cleaning or self._limits.text_cleaning,
            timings=start.timings,
        )

    def _start(self, event: Start) -> SessionStep:
        self._options = self._options_of(event)
        return [JoinContract(event.contract_id), LoadVoice(event.voice)], S.STARTING

    def _stop_draining(self, now_ms: int) -> SessionStep:
        failed = self._queue.fail_all(TtsUnavailable(_SHUTTING_DOWN), now_ms)
        stopped, state = self._stop("draining", CLOSE_GOING_AWAY, now_ms)
        return failed + stopped, state

    def _stop(self, reason: str | None, code: int, now_ms: int) -> SessionStep:
        effects = self._take_buffered() + self._queue.cancel_all(None, now_ms)
        return [*effects, Send(Stopped(reason=reason)), Close(code)], S.STOPPED

    def _fail_all(self, error: TtsError, code: int, now_ms: int) -> SessionStep:
        effects = self._take_buffered() + self._queue.fail_all(error, now_ms)
        return [*effects, Send(ErrorMessage.of(error)), Close(code)], S.STOPPED

    def _invalid_message(self, why: str, now_ms: int, utterance_id: str | None = None) -> SessionStep:
        self._invalid_messages += 1
        answer: list[Effect] = [Send(ErrorMessage.of(InvalidMessage(why), utterance_id))]
        if self._invalid_messages < self._limits.max_invalid_messages:
            return answer, self.state
        return self._close_for_abuse(answer, now_ms)

    def _close_for_abuse(self, effects: list[Effect], now_ms: int) -> SessionStep:
        effects = [*self._take_buffered(), *effects, *self._queue.cancel_all(None, now_ms)]
        return [*effects, Close(CLOSE_POLICY)], S.STOPPED

    def _take_buffered(self) -> list[Effect]:
        replies, self._buffered_replies = self._buffered_replies, []
        return replies


SessionRow = dict[type, Cell[Session, SessionState]]


def _row(*once_idle: SessionState) -> SessionRow:
    """The cells of every state but STOPPED. ``once_idle``: where it goes when the last utterance ends."""
    return (
        on(Flush, Session.deliver)
        | on(Cancel, Session.cancel, *once_idle)
        | on(Ping, Session.pong)
        | on(Stop, Session.stop, S.STOPPED)
        | on(inputs.Malformed, Session.reject_malformed, S.STOPPED)
        | on(inputs.Interrupt, Session.interrupt, *once_idle)
        | on(inputs.Tick, Session.tick, S.STOPPED, *once_idle)
        | on(inputs.Drain, Session.drain, S.STOPPED)
        | on(inputs.Disconnected, Session.disconnect, S.STOPPED)
        | on(inputs.EngineFailed, Session.fail_engine, S.STOPPED)
    )


# Replies are buffered, and too many of them stop the session.
_LOADING_ROW = (
    _row(S.STOPPED)
    | on(Ping, Session.pong, S.STOPPED)
    | on(Speak, Session.speak, S.STOPPED)
    | on(inputs.EngineLoading, Session.send_loading)
)
_IDLE_ROW = _row() | on(Start, Session.start, S.STARTING) | on(Speak, Session.speak, S.SPEAKING, S.STOPPED)


def _busy_row(*once_idle: SessionState) -> SessionRow:
    return (
        _row(*once_idle)
        | on(inputs.AudioReady, Session.deliver)
        | on(inputs.SpeechEnded, Session.deliver, *once_idle)
        | on(inputs.SpeechFailed, Session.deliver, *once_idle)
    )


SESSION_TABLE: dict[SessionState, SessionRow] = {
    S.LOADING: _LOADING_ROW
    | on(Start, Session.defer_start, S.START_DEFERRED, S.STOPPED)
    | on(inputs.EngineReady, Session.send_ready, S.READY, S.SPEAKING, S.DRAINING),
    S.START_DEFERRED: _LOADING_ROW
    | on(Start, Session.defer_start, S.STOPPED)
    | on(inputs.EngineReady, Session.send_ready_and_start, S.STARTING),
    S.READY: _IDLE_ROW,
    S.STARTING: _row(S.STOPPED)
    | on(Start, Session.start, S.STOPPED)
    | on(Speak, Session.speak, S.STOPPED)
    | on(inputs.VoiceLoaded, Session.send_started, S.STARTED, S.SPEAKING, S.DRAINING),
    S.STARTED: _IDLE_ROW,
    S.SPEAKING: _busy_row(*_IDLE)
    | on(Start, Session.refuse_start, S.STOPPED)
    | on(Speak, Session.speak, *_IDLE, S.STOPPED)
    | on(inputs.Drain, Session.drain, S.DRAINING),
    S.DRAINING: _busy_row(S.STOPPED)
    | on(Start, Session.refuse_start)
    | on(Speak, Session.speak, S.STOPPED)
    | on(inputs.Drain, Session.drain),
    S.STOPPED: {},
}
