"""Who takes part in the next step.

In: utterances. Out: a StepPlan. Does not know: the model, threads, time.

Whoever has a piece and credit takes part. Without credit (a listener who does not keep up) an utterance is
left out, and costs nothing until there is some.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from makima_tts.engine.utterance import EngineUtterance, Phase


@dataclass(frozen=True, slots=True)
class StepPlan:
    """``read``: whose prompts are read first. ``speak``: who makes a frame, those in ``read`` among them."""

    read: tuple[EngineUtterance, ...]
    speak: tuple[EngineUtterance, ...]


def plan_step(utterances: Iterable[EngineUtterance]) -> StepPlan:
    """In the order of slots, so that the same utterances make the same batch."""
    able = sorted(
        (each for each in utterances if each.phase is not Phase.WAITING and each.sink.has_credit),
        key=lambda each: each.lease.slot,
    )
    return StepPlan(tuple(each for each in able if each.phase is Phase.TO_READ), tuple(able))
