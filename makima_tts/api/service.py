"""What the routes share: one value for the life of the process, and the state of its engine.

In: the engine, voices and limits; connections that open and close. Out: the same to every route; whether the
engine is ready; which connections are open. Does not know: settings, routes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from makima_tts.alignment import Aligner
from makima_tts.api.waiting import WaitingLine
from makima_tts.errors import ModelLoading, TtsError, TtsUnavailable
from makima_tts.metrics import Metrics
from makima_tts.protocol import Limits
from makima_tts.session.inputs import EngineFailed, EngineLoading, EngineReady
from makima_tts.speech import SpeechEngine, VoicePrompt
from makima_tts.voices import InlineClip, VoiceManager

if TYPE_CHECKING:
    from makima_tts.api.connection import SpeakConnection

LoadReport = EngineLoading | EngineReady | EngineFailed
# From a client's name of a voice to its id in the library; None is the default voice. Raises VoiceNotFound.
VoiceLookup = Callable[[str | None], Awaitable[str | None]]
RETRY_AFTER_S = 5.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Service:
    """Everything that lives as long as the process. ``drain_timeout_s``: how long utterances may finish.

    ``aligner``: None where words are estimated only. ``engine_report``: the latest; every later one goes to
    all connections. ``keep_alive_s``: no stream of events is silent for longer, or a proxy closes it as dead.
    ``line``: requests over HTTP that wait for the engine.
    """

    engine: SpeechEngine
    voices: VoiceManager
    limits: Limits
    metrics: Metrics
    drain_timeout_s: float
    allow_connection: Callable[[str], bool]
    aligner: Aligner | None = None
    engine_report: LoadReport = field(default_factory=lambda: EngineLoading("starting", 0.0))
    draining_until_s: float | None = None
    keep_alive_s: float = 10.0
    _connections: set["SpeakConnection"] = field(default_factory=set)
    line: WaitingLine = field(init=False)
    _http_streams: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        limits = self.limits
        self.line = WaitingLine(self.engine, limits.max_waiting_requests, limits.utterance_timeout_ms / 1000)

    async def load_engine(self) -> None:
        """Load, warm up, prepare the default voice; call it once. Never raises: a failure is a report."""
        try:
            await self.engine.start(lambda stage, progress: self._report(EngineLoading(stage, progress)))
            voice = await self.voices.prepare_default()
        except TtsError as error:
            _log.error("engine_failed", engine=self.engine.facts.name, reason=error.message)
            self._report(EngineFailed(error.message))
        except Exception:
            _log.exception("engine_failed", engine=self.engine.facts.name)
            self._report(EngineFailed("The engine could not be loaded; the server's log says why."))
        else:
            facts = self.engine.facts
            _log.info("engine_ready", engine=facts.name, model=facts.model, voice=voice.id)
            self._report(
                EngineReady(
                    engine=facts.name,
                    model=facts.model,
                    languages=facts.languages,
                    cloning=facts.cloning,
                    text_streaming=facts.text_streaming,
                    voice=voice.id,
                    voice_loaded=True,
                )
            )

    def _report(self, report: LoadReport) -> None:
        self.engine_report = report
        for connection in tuple(self._connections):
            connection.receive(report)

    def require_engine(self) -> EngineReady:
        """Raises ModelLoading, or TtsUnavailable."""
        match self.engine_report:
            case EngineReady() as ready:
                return ready
            case EngineFailed(reason):
                raise TtsUnavailable(reason)
            case EngineLoading(stage):
                raise ModelLoading(f"The model is loading ({stage}).", retry_after_s=RETRY_AFTER_S)

    async def find_voice(self, voice: str | InlineClip | None) -> VoicePrompt | None:
        """Exactly this voice, or VoiceNotFound; None is the default voice, or a usable one instead.

        A clip that cannot be cloned raises InvalidMessage or InvalidClip.
        """
        voices = self.voices
        if isinstance(voice, InlineClip):
            return await voices.clone(voice)
        return (await (voices.resolve(None) if voice is None else voices.get(voice))).prompt

    @property
    def full(self) -> bool:
        return len(self._connections) >= self.limits.max_connections

    def enter(self, connection: "SpeakConnection") -> None:
        self._connections.add(connection)
        self.metrics.sessions.inc()
        self.metrics.sessions_opened.inc()

    def leave(self, connection: "SpeakConnection") -> None:
        self._connections.discard(connection)
        self.metrics.sessions.dec()
        self._changed.set()

    def interrupt_contract(self, contract_id: str) -> int:
        """Connections of one contract are one conversation: cancel all of it. Returns how many utterances."""
        members = [each for each in self._connections if each.contract_id == contract_id]
        return sum(member.interrupt() for member in members)

    @contextmanager
    def http_stream(self) -> Iterator[None]:
        """An utterance over HTTP: draining waits for it, as for a connection."""
        self._http_streams += 1
        try:
            yield
        finally:
            self._http_streams -= 1
            self._changed.set()

    def begin_drain(self) -> None:
        """Refuse new work and let pending utterances finish. Idempotent."""
        if self.draining_until_s is None:
            _log.info(
                "draining",
                sessions=len(self._connections),
                at_most_s=self.drain_timeout_s,
                sooner="signal again",
            )
            self.draining_until_s = asyncio.get_running_loop().time() + self.drain_timeout_s
            for connection in tuple(self._connections):
                connection.drain(self.draining_until_s)

    async def drained(self) -> None:
        """Returns once no connection and no stream is left."""
        while self._connections or self._http_streams:
            self._changed.clear()
            await self._changed.wait()
