"""The engine thread: the only one that touches the device.

In: utterances, other work, wake-ups, from any thread. Out: results through sinks and futures. Does not know:
the event loop, what an iteration does.

It sleeps when there is nothing to do.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from typing import TypeVar

import structlog
import torch

from makima_tts.engines.qwen3.admission import EngineLoad
from makima_tts.engines.qwen3.executors import streams_that_fit
from makima_tts.engines.qwen3.loop import DEVICE_ERROR, Arrivals, EngineLoop, SideWork
from makima_tts.engines.qwen3.prompts import Prompts
from makima_tts.engines.qwen3.runner import Runner
from makima_tts.engines.qwen3.utterance import FrameWatcher, SynthesisOptions
from makima_tts.errors import Cancelled, TtsError, TtsUnavailable
from makima_tts.model.speech_model import SpeechModel
from makima_tts.speech import SpeechSink, UtteranceRequest

Result = TypeVar("Result")
Work = Callable[[SpeechModel], Generator[None, None, Result]]

# Of a compiler's or a driver's message, for the log.
_MAX_MESSAGE_CHARS = 600
_log = structlog.get_logger(__name__)


class EngineThread:
    """``slots``: how many; 0 as many as there is memory for, which ``slots`` is once it has loaded.

    ``progress`` is called with the share, from 0 to 1, of the preparation. ``ended`` is called on the
    engine thread with the sink of every utterance that has ended, ``watch`` with every frame.
    """

    def __init__(
        self,
        load: Callable[[], SpeechModel],
        options: SynthesisOptions,
        *,
        slots: int,
        progress: Callable[[float], None],
        ended: Callable[[SpeechSink], None],
        watch: FrameWatcher | None,
    ) -> None:
        self.slots = slots
        self._load = load
        self._options = options
        self._progress = progress
        self._ended = ended
        self._watch = watch
        self._arrivals: Arrivals = deque()
        self._side_work: deque[SideWork] = deque()
        self._loop: EngineLoop | None = None  # while it runs
        self._wake = threading.Event()
        self._closing = self._stopped = False
        self._loaded: Future[SpeechModel] = Future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> Future[SpeechModel]:
        """Begins to load; errors are the future's."""
        self._thread.start()
        return self._loaded

    def speak(self, request: UtteranceRequest, sink: SpeechSink) -> None:
        self._arrivals.append((request, sink))
        self._wake_or_refuse()

    def run(self, work: Work[Result]) -> Future[Result]:
        """Other work, a slice at a time between iterations; cancelling the future ends it at the next one."""
        side_work = SideWork(self._slices(work))
        self._side_work.append(side_work)
        self._wake_or_refuse()
        return side_work.future

    def _slices(self, work: Work[Result]) -> Generator[None, None, Result]:
        """Begins on the engine thread."""
        return (yield from work(self._loaded.result()))

    def _wake_or_refuse(self) -> None:
        """The thread may have stopped meanwhile."""
        self._wake.set()
        if self._stopped:
            self._refuse_waiting()

    def wake(self) -> None:
        """Something has changed for an utterance: text, credit, a cancel."""
        self._wake.set()

    def close(self) -> None:
        """End everything with Cancelled, and wait until the thread has stopped. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def load(self) -> EngineLoad:
        """As of the last iteration; from any thread."""
        return EngineLoad() if self._loop is None else self._loop.load

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._stopped

    def _run(self) -> None:
        with torch.inference_mode():
            try:
                model = self._load()
                self._loop = loop = self._new_loop(model)
            except BaseException as error:
                if not isinstance(error, TtsError):  # no text has come yet that it could quote
                    _log.error("engine_not_loaded", engine="qwen3", message=str(error)[:_MAX_MESSAGE_CHARS])
                with contextlib.suppress(InvalidStateError):  # the start was cancelled
                    self._loaded.set_exception(error)
                return
            with contextlib.suppress(InvalidStateError):
                self._loaded.set_result(model)
            try:
                self._iterate(loop)
            except Exception as error:
                _log.exception("engine_thread_died", engine="qwen3", message=_message_of_device(error))
            finally:
                self._stopped = True
                loop.end(self._last_error())
                self._loop = None  # frees the slots' buffers
                self._refuse_waiting()

    def _new_loop(self, model: SpeechModel) -> EngineLoop:
        positions = self._options.positions
        self.slots = self.slots or streams_that_fit(model, positions, positions)
        runner = Runner(
            model, slots=self.slots, positions=positions, text_rows=positions, progress=self._progress
        )
        return EngineLoop(
            runner,
            Prompts(model, runner, self._options),
            slots=self.slots,
            options=self._options,
            clock=time.monotonic,
            arrivals=self._arrivals,
            side_work=self._side_work,
            ended=self._ended,
            watch=self._watch,
        )

    def _iterate(self, loop: EngineLoop) -> None:
        while not self._closing:
            self._wake.clear()  # before it looks at what has changed
            if not loop.iterate():
                self._wake.wait()

    def _refuse_waiting(self) -> None:
        """Arrivals and work that no iteration will take; two threads may do so at once."""
        with contextlib.suppress(IndexError):
            while True:
                self._arrivals.popleft()[1].fail(self._last_error())
        with contextlib.suppress(IndexError):
            while True:
                work = self._side_work.popleft()
                with contextlib.suppress(InvalidStateError):
                    work.future.set_exception(TtsUnavailable(self._last_error().message))

    def _last_error(self) -> TtsError:
        if self._closing:
            return Cancelled("The engine was closed.")
        return TtsUnavailable("The engine has stopped; the server's log says why.")


def _message_of_device(error: Exception) -> str | None:
    """A device's message quotes no text; others might."""
    return str(error)[:_MAX_MESSAGE_CHARS] if isinstance(error, DEVICE_ERROR) else None
