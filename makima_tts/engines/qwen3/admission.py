"""Whether one more can be spoken to in real time; and if not, when.

In: what a turn takes, who speaks and for how much longer, who was asked to come again. Out: admitted, or
seconds to wait. Does not know: clocks, texts, slots, the wire.

To refuse is better than to let everybody stutter. Whoever is refused is told when somebody is expected to
have been told everything; the next one who is refused, when the next.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from makima_tts.engines.qwen3.costs import Costs

# realtime: as many as the measured step leaves time for. slots: as many as there are batch rows.
AdmissionRule = Literal["realtime", "slots"]

# Of the time that is there: the rest goes to prompts, voices, and what cannot be foreseen
# (docs/scheduling.md says how it was chosen).
HEADROOM = 0.85

_SOONEST_S, _LATEST_S = 0.2, 30.0
# Prompts and voices take time too.
_CARE = 1.1
# So long after the time that he was told, nobody counts on him any more.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine does now. ``leaving_s``: when each of those who speak will be through, on its clock.

    ``frame_s``: the sound of one frame; 0 while nothing is known.
    """

    costs: Costs = field(default_factory=Costs)
    frame_s: float = 0.0
    leaving_s: tuple[float, ...] = ()


class Admission:
    """One for an engine. ``most``: streams there is room for."""

    def __init__(self, rule: AdmissionRule, most: int, *, headroom: float = HEADROOM) -> None:
        self._rule = rule
        self._most = most
        self._headroom = headroom
        self._promised_s: deque[float] = deque()

    def depends_on_more(self, load: Load) -> bool:
        """Whether it matters what several take: beside one who is not in real time nobody is let in."""
        return self._rule == "realtime" and self._most > 1 and self._in_time(load, 1)

    def limit(self, load: Load) -> int:
        """At least one, however slow this machine is."""
        if self._rule == "slots":
            return self._most
        # More never take less: the first that is too many is sought by halves.
        return max(1, bisect_left(range(1, self._most + 1), True, key=lambda n: not self._in_time(load, n)))

    def _in_time(self, load: Load, streams: int) -> bool:
        return load.costs.turn_s(streams) <= self._headroom * load.frame_s

    def wait_s(self, load: Load, streams: int, now_s: float) -> float | None:
        """None admits one more beside ``streams``; else when to ask again."""
        self._forget(now_s)
        limit = self.limit(load)
        if streams < limit:
            return None
        before = streams - limit + len(self._promised_s)
        free_s = _nth(sorted(max(each_s, now_s) for each_s in load.leaving_s), before, now_s)
        wait_s = min(max(_CARE * (free_s - now_s), _SOONEST_S), _LATEST_S)
        self._promised_s.append(now_s + wait_s)
        return wait_s

    def _forget(self, now_s: float) -> None:
        while self._promised_s and self._promised_s[0] < now_s - _GRACE_S:
            self._promised_s.popleft()
        if self._promised_s and self._promised_s[0] <= now_s:
            self._promised_s.popleft()  # whoever comes now is taken for the one who was told to


def _nth(leaving_s: Sequence[float], number: int, now_s: float) -> float:
    """When the place with this number is free; those who come then stay as long as the last of these."""
    if not leaving_s:
        return now_s
    rounds, place = divmod(number, len(leaving_s))
    return leaving_s[place] + rounds * (leaving_s[-1] - now_s)
