"""The queue of a session: pending utterances, and how recent ones ended.

In: utterances and their inputs. Out: effects. Does not know: the session's states, how an utterance answers.

High before normal before low, first come first served within one; a running utterance is never preempted.
"""

from collections import OrderedDict

from makima_tts.errors import RateLimited, TtsError
from makima_tts.protocol import Cancel
from makima_tts.protocol.messages import PRIORITIES
from makima_tts.session.effects import Effect
from makima_tts.session.inputs import SpeechFailed
from makima_tts.session.utterance import Begin, Outcome, Utterance, UtteranceInput


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
        self._outcomes[utterance_id] = outcome
        while len(self._outcomes) > self._remembered:
            self._outcomes.popitem(last=False)

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
