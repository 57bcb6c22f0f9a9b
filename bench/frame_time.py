"""Where a frame's time goes.

In: a model, something that speaks with it. Out: milliseconds of each part in a frame, of the operators that
take most. Does not know: whose frames they are.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from bench.sides import Clock, Figures
from makima_tts.model import sampling
from makima_tts.model.speech_model import SpeechModel

_REST = "the rest"
_OPERATORS = 10
_SAMPLING = ("sample", "penalize", "forbid", "uniform")


class Ledger:
    """Charges time to what is being done at that time: a part within another is not the other's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._doing = [_REST]
        self._since_ms = clock.now_ms()
        self.spent_ms: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def doing(self, part: str) -> Iterator[None]:
        self.charge()
        self._doing.append(part)
        try:
            yield
        finally:
            self.charge()
            self._doing.pop()

    def charge(self) -> None:
        now_ms = self._clock.now_ms()
        self.spent_ms[self._doing[-1]] += now_ms - self._since_ms
        self._since_ms = now_ms

    def watching(self, owner: Any, name: str, part: str) -> Any:
        """A context in which every call of this is ``part``."""
        watched = getattr(owner, name)

        def charged(*arguments: Any, **named: Any) -> Any:
            with self.doing(part):
                return watched(*arguments, **named)

        return mock.patch.object(owner, name, charged)


def where_time_goes(clock: Clock, model: SpeechModel, speak: Callable[[], object], frames: int) -> Figures:
    """Milliseconds a frame, of all that ``speak`` does; together they are the whole."""
    with ExitStack() as stack:
        ledger = Ledger(clock)
        for owner, name, part in _places(model):
            stack.enter_context(ledger.watching(owner, name, part))
        speak()
        ledger.charge()
    return {f"a frame's {part}, ms": spent_ms / frames for part, spent_ms in ledger.spent_ms.items()}


def _places(model: SpeechModel) -> Iterator[tuple[Any, str, str]]:
    yield type(model.talker), "step", "talker"
    yield type(model.talker), "logits", "talker"
    yield type(model.predictor), "predict", "code predictor"
    yield type(model.codec), "decode", "codec"
    for name in _SAMPLING:
        yield sampling, name, "sampling"


def top_operators(speak: Callable[[], object], frames: int) -> Figures:
    """Torch's, by their own time in milliseconds a frame."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        speak()
    own_ms = {each.key: _own_us(each) / 1e3 / frames for each in profiled.key_averages()}
    most = sorted(own_ms, key=lambda name: -own_ms[name])[:_OPERATORS]
    return {f"operator {name}, ms": own_ms[name] for name in most}


def _own_us(event: Any) -> float:
    return float(event.self_device_time_total or event.self_cpu_time_total)
