"""Who speaks next, and who has spoken.

In: utterances and their inputs. Out: effects. Does not know: the session's states; what an utterance does.

High before normal before low, first come first served within one; a running utterance is never preempted.
"""

from collections import OrderedDict

from makima_tts.errors import RateLimited, TtsError
from makima_tts.session.effects import Effect
from makima_tts.session.inputs import SpeechFailed
from makima_tts.session.tables import Begin, Silence, UtteranceInput
from makima_tts.session.utterances import Outcome, Utterance

# Roughly how fast people speak.
_S_PER_CHAR = 0.065


class UtteranceQueue:
    """``remembered``: how many ended utterances' ids are kept, to tell late text from new."""

    def __init__(self, remembered: int) -> None:
        self.waiting: list[Utterance] = []
        self.speaking: Utterance | None = None
        self._over: OrderedDict[str, Outcome] = OrderedDict()
        self._remembered = remembered

    @property
    def pending(self) -> list[Utterance]:
        """What is speaking, then what waits, in the order it will be heard."""
        waiting = sorted(self.waiting, key=lambda one: (one.priority, one.order))
        return [self.speaking, *waiting] if self.speaking else waiting

    def find(self, utterance_id: str | None) -> Utterance | None:
        """A pending utterance."""
        return next((one for one in self.pending if one.id == utterance_id), None)

    def outcome_of(self, utterance_id: str | None) -> Outcome | None:
        """How a remembered utterance ended."""
        return None if utterance_id is None else self._over.get(utterance_id)

    def remember(self, utterance_id: str, outcome: Outcome) -> None:
        self._over[utterance_id] = outcome
        while len(self._over) > self._remembered:
            self._over.popitem(last=False)

    def tell(self, utterance: Utterance | None, event: UtteranceInput, now_ms: int) -> list[Effect]:
        """Pass an input on; an utterance that ends by it leaves the queue."""
        if utterance is None:
            return []
        effects = utterance.receive(event, now_ms)
        if utterance.outcome is not None:
            self.remember(utterance.id, utterance.outcome)
            self.waiting = [one for one in self.waiting if one is not utterance]
            self.speaking = None if utterance is self.speaking else self.speaking
        return effects

    def begin_next(self, now_ms: int) -> list[Effect]:
        """Let the head speak, once nobody else does and there is something to say."""
        if self.speaking is not None:
            return []
        head, *others = self.pending
        head.reach_head(now_ms)
        for one in others:
            one.leave_head()
        if not head.has_speech:
            return []
        self.waiting.remove(head)
        self.speaking = head
        return head.receive(Begin(), now_ms)

    def full(self, limit: int) -> RateLimited:
        """What to say when nobody more may wait; room comes when the shortest text has been spoken."""
        chars = min(one.text_length for one in self.pending)
        return RateLimited(
            f"The queue is full ({limit} utterances); wait for one to end.",
            retry_after_s=max(1.0, chars * _S_PER_CHAR),
        )

    def silence_all(self, played_ms: int | None, now_ms: int) -> list[Effect]:
        """Cancel everything; ``played_ms`` is about the one that is speaking."""
        effects: list[Effect] = []
        for one in self.pending:
            effects += self.tell(one, Silence(played_ms if one.speaking else None), now_ms)
        return effects

    def fail_all(self, error: TtsError, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for one in self.pending:
            effects += self.tell(one, SpeechFailed(one.id, error), now_ms)
        return effects
