"""Whether one more utterance can be spoken in real time; and if not, when to ask again.

In: what an iteration takes, who speaks and for how much longer, who was refused. Out: admitted, or seconds to
wait. Does not know: clocks, texts, slots, the wire.

To refuse is better than to let every stream stutter. A refused client is told when a stream is expected to be
complete; the next one that is refused, when the next stream is.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from makima_tts.engines.qwen3.costs import Costs

# realtime: as many as the measured step leaves time for. slots: as many as there are batch rows.
AdmissionRule = Literal["realtime", "slots"]

# Share of the time that streams may take: the rest is for prompts, voices, and what cannot be foreseen
# (docs/scheduling.md says how it was chosen).
HEADROOM = 0.85

_MIN_WAIT_S, _MAX_WAIT_S = 0.2, 30.0
# Prompts and voices take time too.
_SAFETY_FACTOR = 1.1
# A refused client that has not come so long after its time is no longer expected.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """``complete_at_s``: when each open utterance will be generated, on the engine's clock.

    ``frame_s``: the sound of one frame; 0 while it is unknown.
    """

    costs: Costs = field(default_factory=Costs)
    frame_s: float = 0.0
    complete_at_s: tuple[float, ...] = ()


class Admission:
    """One for an engine. ``max_streams``: that there is memory for."""

    def __init__(self, rule: AdmissionRule, max_streams: int, *, headroom: float = HEADROOM) -> None:
        self._rule = rule
        self._max_streams = max_streams
        self._headroom = headroom
        self._promised_s: deque[float] = deque()

    def depends_on_batch_costs(self, load: EngineLoad) -> bool:
        """Whether the costs of several streams matter: if one is not in real time, no second is admitted."""
        return self._rule == "realtime" and self._max_streams > 1 and self._in_time(load, 1)

    def limit(self, load: EngineLoad) -> int:
        """Streams at once: at least one, however slow this machine is."""
        if self._rule == "slots":
            return self._max_streams
        # More streams never cost less, so the first count that is too large is found by bisection.
        counts = range(1, self._max_streams + 1)
        return max(1, bisect_left(counts, True, key=lambda count: not self._in_time(load, count)))

    def _in_time(self, load: EngineLoad, streams: int) -> bool:
        return load.costs.iteration_s(streams) <= self._headroom * load.frame_s

    def wait_s(self, load: EngineLoad, streams: int, now_s: float) -> float | None:
        """None admits one more beside ``streams``; else when to ask again."""
        self._forget_promises(now_s)
        limit = self.limit(load)
        if streams < limit:
            return None
        before = streams - limit + len(self._promised_s)
        free_s = _nth(sorted(max(each_s, now_s) for each_s in load.complete_at_s), before, now_s)
        wait_s = min(max(_SAFETY_FACTOR * (free_s - now_s), _MIN_WAIT_S), _MAX_WAIT_S)
        self._promised_s.append(now_s + wait_s)
        return wait_s

    def _forget_promises(self, now_s: float) -> None:
        while self._promised_s and self._promised_s[0] < now_s - _GRACE_S:
            self._promised_s.popleft()
        if self._promised_s and self._promised_s[0] <= now_s:
            self._promised_s.popleft()  # the client that asks now is assumed to be the one whose time it is


def _nth(complete_at_s: Sequence[float], number: int, now_s: float) -> float:
    """When the stream with this number is complete; later ones are assumed to take as long as the last."""
    if not complete_at_s:
        return now_s
    rounds, index = divmod(number, len(complete_at_s))
    return complete_at_s[index] + rounds * (complete_at_s[-1] - now_s)
