"""The laws of a conversation, over thousands of steps in any order: messages, engine reports and time."""

from collections import Counter

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from makima_tts.errors import SynthesisError, TtsError
from makima_tts.protocol import (
    Cancel,
    Complete,
    ErrorMessage,
    Flush,
    Limits,
    Ping,
    ServerMessage,
    Speak,
    Start,
    Stop,
)
from makima_tts.session.effects import (
    CancelSpeech,
    Close,
    Effect,
    FeedPiece,
    FinishText,
    LoadVoice,
    Send,
    SendAudio,
    StartSpeech,
    UtteranceEnded,
    WakeAt,
)
from makima_tts.session.inputs import (
    Disconnected,
    Drain,
    EngineFailed,
    Interrupt,
    Malformed,
    SessionInput,
    Tick,
    VoiceLoaded,
)
from makima_tts.session.machine import SessionState
from tests.session.talk import READY, Talk

TEXTS = st.sampled_from(
    ["Hello there, friend. ", "a", " ", "", "...", "One sentence. Another one! ", "x" * 350]
)
NAMES = st.sampled_from(["a", "b", "c", None])
LIMITS = Limits(max_queued_utterances=3, max_text_chars=400, max_utterance_chars=900, max_invalid_messages=6)


class Conversation(RuleBasedStateMachine):
    """Plays client, engine and clock; remembers what each side received."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk(LIMITS)
        self.speaking: str | None = None
        self.voice_wanted = False
        self.closed = False
        self.gone = False
        self.page = True
        self.fed: Counter[str] = Counter()
        self.spoken_pieces: Counter[str] = Counter()
        self.begun: list[str] = []
        self.terminals: Counter[str] = Counter()
        self.retryable: set[str] = set()
        self.finished: set[str] = set()
        self.wake_ms: int | None = None

    @initialize(events=st.booleans())
    def connect(self, events: bool) -> None:
        self.talk = Talk(LIMITS, events=events)

    def send(self, event: SessionInput) -> None:
        before = self.talk.session.state
        effects = self.talk.send(event)
        assert before is not SessionState.STOPPED or effects == []
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        assert not self.closed, f"{effect} after the close"
        self.perform_as_engine(effect)
        self.perform_as_client(effect)

    def perform_as_engine(self, effect: Effect) -> None:
        match effect:
            case StartSpeech():
                assert self.speaking is None, "two utterances at once"
                if effect.utterance_id in self.retryable:
                    self.forget(effect.utterance_id)
                assert effect.utterance_id not in self.begun, "an utterance began twice"
                self.speaking = effect.utterance_id
                self.begun.append(effect.utterance_id)
            case FeedPiece():
                assert self.speaking == effect.utterance_id
                assert effect.utterance_id not in self.finished
                self.fed[effect.utterance_id] += effect.ends_piece
            case FinishText():
                assert self.speaking == effect.utterance_id
                self.finished.add(effect.utterance_id)
            case CancelSpeech():
                assert self.speaking in (effect.utterance_id, None)
                self.speaking = None

    def forget(self, utterance_id: str) -> None:
        """It failed recoverably: the next utterance with this id is another one."""
        self.begun.remove(utterance_id)
        self.finished.discard(utterance_id)
        self.retryable.discard(utterance_id)
        for counts in (self.fed, self.spoken_pieces, self.terminals):
            counts[utterance_id] = 0

    def perform_as_client(self, effect: Effect) -> None:
        match effect:
            case SendAudio():
                assert not self.gone
                assert self.speaking is not None, "audio of an ended utterance"
            case Send():
                assert not self.gone, "a message after the disconnect"
                self.receive(effect.message)
            case LoadVoice():
                self.voice_wanted = True
            case WakeAt():
                self.wake_ms = effect.at_ms
            case Close():
                self.closed = True

    def receive(self, message: ServerMessage) -> None:
        if message.type == "audioChunk":
            assert self.terminals[message.utterance_id] == 0, "audio after the terminal message"
        if message.type == "complete" or (message.type == "error" and message.code != "INVALID_MESSAGE"):
            self.end_utterance(str(message.utterance_id), message)
        if message.type == "stopped":
            assert self.speaking is None

    def end_utterance(self, utterance_id: str, message: Complete | ErrorMessage) -> None:
        if utterance_id in self.retryable:  # the next one with this id ended before it began
            self.forget(utterance_id)
        elif message.type == "complete" or utterance_id in self.begun:
            self.terminals[utterance_id] += 1
            self.speaking = None if utterance_id == self.speaking else self.speaking
            if message.type == "error" and message.recoverable and message.code != "CANCELLED":
                self.retryable.add(utterance_id)

    # The client

    @rule(text=TEXTS, name=NAMES, final=st.booleans(), priority=st.sampled_from(["low", "normal", "high"]))
    def speak(self, text: str, name: str | None, final: bool, priority: str) -> None:
        final = final or name is None
        self.send(Speak(text=text, utterance_id=name, final=final, priority=priority))  # type: ignore[arg-type]

    @rule(name=NAMES)
    def cancel(self, name: str | None) -> None:
        self.send(Cancel(utterance_id=name))
        if name is None:
            assert self.talk.session.pending_count == 0

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def flush(self, name: str) -> None:
        self.send(Flush(utterance_id=name))

    @rule()
    def ping(self) -> None:
        self.send(Ping())

    @rule(transport=st.sampled_from(["binary", "json"]))
    def start(self, transport: str) -> None:
        self.send(Start(transport=transport))  # type: ignore[arg-type]

    @rule()
    def send_invalid(self) -> None:
        self.send(Malformed("no"))

    @precondition(lambda self: len(self.begun) > 3)
    @rule()
    def stop(self) -> None:
        self.send(Stop())

    @precondition(lambda self: len(self.begun) > 3)
    @rule()
    def disconnect(self) -> None:
        self.gone = True
        self.send(Disconnected())

    # The engine

    @rule()
    def load(self) -> None:
        self.send(READY)

    @precondition(lambda self: self.voice_wanted)
    @rule()
    def load_voice(self) -> None:
        self.voice_wanted = False
        self.send(VoiceLoaded("makima", None))

    @precondition(
        lambda self: self.speaking is not None and self.spoken_pieces[self.speaking] < self.fed[self.speaking]
    )
    @rule()
    def send_audio(self) -> None:
        assert self.speaking is not None
        utterance_id = self.speaking
        for effect in self.talk.audio(utterance_id, piece=self.spoken_pieces[utterance_id]):
            self.perform(effect)
        self.spoken_pieces[utterance_id] += 1

    @precondition(lambda self: self.speaking in self.finished)
    @rule()
    def end(self) -> None:
        for effect in self.finish_speaking():
            self.perform(effect)

    def finish_speaking(self) -> list[Effect]:
        assert self.speaking is not None
        utterance_id, self.speaking = self.speaking, None
        return self.talk.ended(utterance_id)

    @precondition(lambda self: self.speaking is not None)
    @rule(error=st.just(SynthesisError("no")))
    def fail(self, error: TtsError) -> None:
        assert self.speaking is not None
        for effect in self.talk.failed(error, self.speaking):
            self.perform(effect)

    @rule(name=st.sampled_from(["a", "b", "u1", "u2"]))
    def report_late(self, name: str) -> None:
        if name != self.speaking:
            for effect in (*self.talk.audio(name), *self.talk.ended(name)):
                self.perform(effect)

    # The service and the clock

    @rule(ms=st.sampled_from([1, 500, 10_000]))
    def pass_time(self, ms: int) -> None:
        self.talk.later(ms)
        if self.wake_ms is not None and self.talk.now_ms >= self.wake_ms:
            self.wake_ms = None
            self.send(Tick())

    @rule()
    def interrupt(self) -> None:
        self.send(Interrupt())
        assert self.talk.session.pending_count == 0

    @precondition(lambda self: len(self.begun) > 3)
    @rule()
    def drain(self) -> None:
        self.send(Drain(self.talk.now_ms + 20_000))

    @precondition(lambda self: len(self.begun) > 6)
    @rule()
    def break_engine(self) -> None:
        self.send(EngineFailed("gone"))

    # The laws

    @invariant()
    def no_utterance_has_two_terminal_messages(self) -> None:
        assert all(count <= 1 for count in self.terminals.values())

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.talk.session.pending_count <= LIMITS.max_queued_utterances + 1

    @invariant()
    def a_stopped_session_has_nothing_pending(self) -> None:
        if self.talk.session.state is SessionState.STOPPED:
            assert self.talk.session.pending_count == 0
            assert self.speaking is None
            assert self.closed or self.gone

    @invariant()
    def every_ended_utterance_was_reported(self) -> None:
        ended = sum(isinstance(effect, UtteranceEnded) for effect in self.talk.effects)
        accepted_and_ended = len([one for one in self.begun if one != self.speaking])
        assert ended >= accepted_and_ended

    @invariant()
    def there_is_always_a_deadline(self) -> None:
        open_ = self.talk.session.state is not SessionState.STOPPED
        assert not open_ or self.wake_ms is not None or not self.talk.effects


TestAnyConversation = Conversation.TestCase
TestAnyConversation.settings = settings(
    max_examples=150, stateful_step_count=60, derandomize=True, deadline=None
)
