"""One connection's conversation.

In: SessionInput and the time. Out: effects. Does not know: how a message is framed, who synthesizes, what
time it is. ``receive`` is total: it never raises for what a client did, and never waits.
"""

from collections.abc import Callable, Iterator
from typing import get_args

from makima_tts.errors import (
    InvalidMessage,
    ModelLoading,
    TtsError,
    TtsUnavailable,
    UtteranceTimeout,
)
from makima_tts.protocol import (
    Cancel,
    ClientMessage,
    Flush,
    Interrupted,
    Limits,
    Loading,
    Ping,
    Pong,
    Speak,
    Start,
    Started,
    Stop,
    Stopped,
)
from makima_tts.protocol.formats import PRIORITIES
from makima_tts.session import inputs
from makima_tts.session.answers import error_message, ready_message
from makima_tts.session.effects import Close, Effect, JoinContract, LoadVoice, Send, UtteranceEnded, WakeAt
from makima_tts.session.inputs import SessionInput, SpeechFailed
from makima_tts.session.queue import UtteranceQueue
from makima_tts.session.tables import SESSION_TABLE, Append, FlushText, SessionState, Silence, Stalled
from makima_tts.session.utterances import Manner, Utterance

_BEFORE_READY = (SessionState.LOADING, SessionState.HELD)
_CLIENT_MESSAGES = get_args(ClientMessage)
# Answers held back until `ready` went out; more than this from one client is abuse, not impatience.
_MAX_HELD_ANSWERS = 100
_START_OUT_OF_PLACE = "`start` is only allowed while nothing is queued or speaking."
_SHUTTING_DOWN = "The service is shutting down; connect again in a moment."
_LOADING_PERIOD_MS = 1000

CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_POLICY, CLOSE_INTERNAL, CLOSE_TRY_LATER, CLOSE_IDLE = (
    1000,
    1001,
    1008,
    1011,
    1013,
    4408,
)


class Session:
    """``ids`` names utterances that the client did not name; ``now_ms`` is any monotonic clock's."""

    def __init__(
        self, session_id: str, limits: Limits, ids: Iterator[str], *, now_ms: int, events: bool
    ) -> None:
        self.id = session_id
        self.state = SessionState.LOADING
        self._limits = limits
        self._ids = ids
        self._manner = Manner(events=events, text_cleaning=limits.text_cleaning)
        self._queue = UtteranceQueue(limits.remembered_utterances)
        self._order = 0
        self._invalid = 0
        self._held_start = Start()
        self._held_answers: list[Effect] = []
        self._began_ms = self._active_ms = now_ms
        self._drain_until_ms: int | None = None
        self._loading_shown_ms: int | None = None
        self._wake_ms: int | None = None

    @property
    def pending_count(self) -> int:
        """Utterances that have no terminal message yet."""
        return len(self._queue.pending)

    def receive(self, event: SessionInput, now_ms: int) -> list[Effect]:
        """The effects of one input, to be performed in order."""
        cell = SESSION_TABLE[self.state].get(type(event))
        if cell is not None:
            if isinstance(event, _CLIENT_MESSAGES):
                self._active_ms = now_ms
            effects = _CELLS[cell.method](self, event, now_ms)
        elif isinstance(event, _CLIENT_MESSAGES) and self.state is not SessionState.STOPPED:
            effects = self._invalid_message(_START_OUT_OF_PLACE, now_ms)
        else:
            return []
        effects += self._advance(now_ms)
        return self._hold_back(effects) + self._wake()

    # Starting

    def show_loading(self, event: inputs.EngineLoading, now_ms: int) -> list[Effect]:
        shown_ms = self._loading_shown_ms
        if not self._manner.events or (shown_ms is not None and now_ms - shown_ms < _LOADING_PERIOD_MS):
            return []
        self._loading_shown_ms = now_ms
        return [Send(Loading(stage=event.stage, progress=event.progress))]

    def hold(self, event: Start, now_ms: int) -> list[Effect]:
        if refusal := self._refuse_start(event, now_ms):
            return refusal
        self.state, self._held_start = SessionState.HELD, event
        self._manner = self._manner_of(event)
        return [JoinContract(event.contract_id)]

    def get_ready(self, event: inputs.EngineReady, now_ms: int) -> list[Effect]:
        self.state = self._state_with_pending(SessionState.READY)
        self._active_ms = now_ms
        held, self._held_answers = self._held_answers, []
        return [Send(ready_message(self.id, event, self._limits, self._manner.format)), *held]

    def get_ready_and_start(self, event: inputs.EngineReady, now_ms: int) -> list[Effect]:
        return self.get_ready(event, now_ms) + self._start(self._held_start)

    def start(self, event: Start, now_ms: int) -> list[Effect]:
        if refusal := self._refuse_start(event, now_ms):
            return refusal
        return self._start(event)

    def get_started(self, event: inputs.VoiceLoaded, now_ms: int) -> list[Effect]:
        self.state = self._state_with_pending(SessionState.STARTED)
        manner = self._manner
        started = Started(
            sample_rate=manner.format.sample_rate_hz,
            encoding=manner.format.encoding,
            voice=event.voice,
            language=manner.language,
            warning=event.warning,
        )
        return [Send(started)]

    # Speaking

    def speak(self, event: Speak, now_ms: int) -> list[Effect]:
        known = self._queue.find(event.utterance_id)
        if known is not None:
            return self._append(known, event, now_ms)
        outcome = self._queue.outcome_of(event.utterance_id)
        if outcome == "complete":
            return self._invalid_message("This utteranceId is complete; use a new one.", now_ms)
        if outcome is not None:
            return []
        if self._draining:
            return self._turn_away(event, TtsUnavailable(_SHUTTING_DOWN))
        if len(self._queue.waiting) >= self._limits.max_queued_utterances:
            return self._turn_away(event, self._queue.full(self._limits.max_queued_utterances))
        return self._accept(event, now_ms)

    def flush(self, event: Flush, now_ms: int) -> list[Effect]:
        return self._queue.tell(self._queue.find(event.utterance_id), FlushText(), now_ms)

    def cancel(self, event: Cancel, now_ms: int) -> list[Effect]:
        if event.utterance_id is None:
            return self._queue.silence_all(event.played_ms, now_ms)
        return self._queue.tell(self._queue.find(event.utterance_id), Silence(event.played_ms), now_ms)

    def interrupt(self, event: inputs.Interrupt, now_ms: int) -> list[Effect]:
        """Seconds of what was sent to its end may wait to be heard, and no CANCELLED silences those."""
        effects = self._queue.silence_all(None, now_ms)
        return [*effects, Send(Interrupted())] if self._manner.events else effects

    def report(
        self, event: inputs.AudioReady | inputs.SpeechEnded | inputs.SpeechFailed, now_ms: int
    ) -> list[Effect]:
        return self._queue.tell(self._queue.find(event.utterance_id), event, now_ms)

    def pong(self, event: Ping, now_ms: int) -> list[Effect]:
        return [Send(Pong(id=event.id))]

    # Ending

    def stop(self, event: Stop, now_ms: int) -> list[Effect]:
        return self._finish(event.reason, CLOSE_NORMAL, now_ms)

    def drain(self, event: inputs.Drain, now_ms: int) -> list[Effect]:
        """What is pending may end first, even if its voice or the model is still loading."""
        if not self._draining:
            self._drain_until_ms = event.until_ms
        if self.state is SessionState.SPEAKING:
            self.state = SessionState.DRAINING
        return []

    def disconnect(self, event: inputs.Disconnected, now_ms: int) -> list[Effect]:
        effects = self._queue.silence_all(None, now_ms)
        self.state = SessionState.STOPPED
        return [effect for effect in effects if not isinstance(effect, Send)]

    def fail_engine(self, event: inputs.EngineFailed, now_ms: int) -> list[Effect]:
        return self._fail_all(TtsUnavailable(event.reason), CLOSE_INTERNAL, now_ms)

    def complain(self, event: inputs.Malformed, now_ms: int) -> list[Effect]:
        return self._invalid_message(event.reason, now_ms)

    # Time

    def tick(self, event: inputs.Tick, now_ms: int) -> list[Effect]:
        self._wake_ms = None
        effects: list[Effect] = []
        for one in self._queue.pending:
            if _due(one.stall_at_ms(), now_ms):
                effects += self._queue.tell(one, Stalled(), now_ms)
            if _due(one.timeout_at_ms(), now_ms):
                effects += self._queue.tell(one, SpeechFailed(one.id, UtteranceTimeout()), now_ms)
        return effects + self._end_if_due(now_ms)

    def _end_if_due(self, now_ms: int) -> list[Effect]:
        if _due(self._drain_until_ms, now_ms):
            return self._finish_draining(now_ms)
        if _due(self._load_deadline_ms(), now_ms):
            error = ModelLoading("The model is still loading; try again in a minute.")
            return self._fail_all(error, CLOSE_TRY_LATER, now_ms)
        if now_ms >= self._began_ms + self._limits.max_session_ms:
            return self._finish("session_limit", CLOSE_NORMAL, now_ms)
        if _due(self._idle_deadline_ms(), now_ms):
            return self._finish("idle", CLOSE_NORMAL if self._manner.page else CLOSE_IDLE, now_ms)
        return []

    def _load_deadline_ms(self) -> int | None:
        return self._began_ms + self._limits.load_timeout_ms if self.state in _BEFORE_READY else None

    def _idle_deadline_ms(self) -> int | None:
        resting = self.state in (SessionState.READY, SessionState.STARTED)
        return self._active_ms + self._limits.idle_timeout_ms if resting else None

    def _wake(self) -> list[Effect]:
        """Ask for a Tick at the earliest deadline. One asked for too early only asks again."""
        wishes = [
            self._began_ms + self._limits.max_session_ms,
            self._drain_until_ms,
            self._load_deadline_ms(),
        ]
        wishes += [self._idle_deadline_ms()]
        for one in self._queue.pending:
            wishes += [one.stall_at_ms(), one.timeout_at_ms()]
        earliest_ms = min(wish for wish in wishes if wish is not None)
        asked_already = self._wake_ms is not None and self._wake_ms <= earliest_ms
        if self.state is SessionState.STOPPED or asked_already:
            return []
        self._wake_ms = earliest_ms
        return [WakeAt(earliest_ms)]

    # The queue

    def _accept(self, event: Speak, now_ms: int) -> list[Effect]:
        utterance = Utterance(
            id=event.utterance_id or self._fresh_id(),
            manner=self._manner,
            limits=self._limits,
            priority=PRIORITIES[event.priority],
            order=self._order,
            voice=event.voice,
            language=event.language or self._manner.language,
            seed=event.seed,
            accepted_ms=now_ms,
        )
        effects = utterance.receive(Append(event.text, event.final), now_ms)
        if utterance.over:
            return self._reject(event, effects)
        self._order += 1
        self._queue.waiting.append(utterance)
        if self.state in (SessionState.READY, SessionState.STARTED):
            self.state = SessionState.SPEAKING
        return effects

    def _fresh_id(self) -> str:
        """One that the client has not used itself."""
        return next(
            name for name in self._ids if not (self._queue.find(name) or self._queue.outcome_of(name))
        )

    def _reject(self, event: Speak, effects: list[Effect]) -> list[Effect]:
        """Text that cannot be spoken was never accepted: an id that we made means nothing to the client."""
        self._remember_unless_final(event)
        return [
            Send(effect.message.model_copy(update={"utterance_id": event.utterance_id}))
            if isinstance(effect, Send)
            else effect
            for effect in effects
        ]

    def _turn_away(self, event: Speak, error: TtsError) -> list[Effect]:
        self._remember_unless_final(event)
        ended = UtteranceEnded(error.code, audio_ms=0, queue_ms=None, ttfa_ms=None, rtf=None)
        return [Send(error_message(error, event.utterance_id)), ended]

    def _remember_unless_final(self, event: Speak) -> None:
        """The rest of a live text that was turned away must not begin an utterance in mid-sentence."""
        if not event.final and event.utterance_id is not None:
            self._queue.remember(event.utterance_id, "failed")

    def _append(self, utterance: Utterance, event: Speak, now_ms: int) -> list[Effect]:
        if not utterance.accepts(Append):
            return self._invalid_message("The text of this utteranceId is closed; use a new one.", now_ms)
        return self._queue.tell(utterance, Append(event.text, event.final), now_ms)

    @property
    def _draining(self) -> bool:
        return self._drain_until_ms is not None

    def _state_with_pending(self, otherwise: SessionState) -> SessionState:
        if not self._queue.pending:
            return otherwise
        return SessionState.DRAINING if self._draining else SessionState.SPEAKING

    def _advance(self, now_ms: int) -> list[Effect]:
        """Whose turn is it? And, once nothing is pending: what now?"""
        if self._draining and not self._queue.pending and self.state is not SessionState.STOPPED:
            return self._finish_draining(now_ms)
        if self.state in (SessionState.SPEAKING, SessionState.DRAINING):
            return self._queue.begin_next(now_ms) if self._queue.pending else self._rest(now_ms)
        return []

    def _rest(self, now_ms: int) -> list[Effect]:
        self.state = SessionState.READY if self._manner.page else SessionState.STARTED
        self._active_ms = now_ms
        return []

    # Closing and answering

    def _refuse_start(self, event: Start, now_ms: int) -> list[Effect]:
        if self._draining:
            return [Send(error_message(TtsUnavailable(_SHUTTING_DOWN)))]
        return self._invalid_message(_START_OUT_OF_PLACE, now_ms) if self._queue.pending else []

    def _start(self, event: Start) -> list[Effect]:
        self.state = SessionState.STARTING
        self._manner = self._manner_of(event)
        return [JoinContract(event.contract_id), LoadVoice(event.voice)]

    def _finish_draining(self, now_ms: int) -> list[Effect]:
        failed = self._queue.fail_all(TtsUnavailable(_SHUTTING_DOWN), now_ms)
        return failed + self._finish("draining", CLOSE_GOING_AWAY, now_ms)

    def _finish(self, reason: str | None, code: int, now_ms: int) -> list[Effect]:
        effects = self._held_answers + self._queue.silence_all(None, now_ms)
        self._held_answers, self.state = [], SessionState.STOPPED
        return [*effects, Send(Stopped(reason=reason)), Close(code)]

    def _fail_all(self, error: TtsError, code: int, now_ms: int) -> list[Effect]:
        effects = self._held_answers + self._queue.fail_all(error, now_ms)
        self._held_answers, self.state = [], SessionState.STOPPED
        return [*effects, Send(error_message(error)), Close(code)]

    def _invalid_message(self, why: str, now_ms: int) -> list[Effect]:
        self._invalid += 1
        said = Send(error_message(InvalidMessage(why)))
        if self._invalid < self._limits.max_invalid_messages:
            return [said]
        return self._close_for_abuse([said], now_ms)

    def _close_for_abuse(self, effects: list[Effect], now_ms: int) -> list[Effect]:
        effects = [*self._held_answers, *effects, *self._queue.silence_all(None, now_ms)]
        self._held_answers, self.state = [], SessionState.STOPPED
        return [*effects, Close(CLOSE_POLICY)]

    def _hold_back(self, effects: list[Effect]) -> list[Effect]:
        """`ready` is always the first message: until then only `loading` goes out."""
        if self.state not in _BEFORE_READY:
            return effects
        now: list[Effect] = []
        for effect in effects:
            answer = isinstance(effect, Send) and not isinstance(effect.message, Loading)
            (self._held_answers if answer else now).append(effect)
        if len(self._held_answers) > _MAX_HELD_ANSWERS:
            return now + self._close_for_abuse([], self._active_ms)
        return now

    def _manner_of(self, start: Start) -> Manner:
        return Manner(
            format=start.format,
            transport=start.transport,
            events=start.events or self._manner.events,
            page=False,
            voice=start.voice,
            language=start.language,
            text_cleaning=start.text_cleaning or self._limits.text_cleaning,
        )


def _due(deadline_ms: int | None, now_ms: int) -> bool:
    return deadline_ms is not None and now_ms >= deadline_ms


_CELLS: dict[str, Callable[..., list[Effect]]] = {
    cell.method: getattr(Session, cell.method) for row in SESSION_TABLE.values() for cell in row.values()
}
