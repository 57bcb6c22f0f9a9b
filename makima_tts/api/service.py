"""What the routes share: one value that is made once and passed to each of them.

In: the parts. Out: the parts, and which connections are open. Does not know: settings, routes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from makima_tts.api.engine_life import EngineLife
from makima_tts.api.native.contracts import Contracts, Interruptible
from makima_tts.metrics import Metrics
from makima_tts.protocol import Limits
from makima_tts.speech import SpeechEngine
from makima_tts.voices import VoiceManager

_log = structlog.get_logger(__name__)


class OpenSession(Interruptible, Protocol):
    """A connection, as those see it who end it."""

    def drain(self, until_s: float) -> None:
        """Take no new utterances; end when the pending ones have, or at ``until_s`` (loop time)."""
        ...


@dataclass(slots=True)
class Service:
    """Everything that lives as long as the process. ``drain_timeout_s``: how long utterances may finish.

    ``sign_of_life_s``: no stream of events is silent for longer, or a proxy takes it for dead.
    """

    engine: SpeechEngine
    voices: VoiceManager
    limits: Limits
    metrics: Metrics
    drain_timeout_s: float
    allow_connection: Callable[[str], bool]
    life: EngineLife = field(init=False)
    contracts: Contracts = field(default_factory=Contracts)
    draining_until_s: float | None = None
    sign_of_life_s: float = 10.0
    _sessions: set[OpenSession] = field(default_factory=set)
    _streams: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.life = EngineLife(self.engine, self.voices)

    @property
    def full(self) -> bool:
        return len(self._sessions) >= self.limits.max_connections

    def enter(self, session: OpenSession) -> None:
        self._sessions.add(session)
        self.metrics.sessions.inc()
        self.metrics.sessions_opened.inc()

    def leave(self, session: OpenSession) -> None:
        self._sessions.discard(session)
        self.contracts.leave(session)
        self.metrics.sessions.dec()
        self._changed.set()

    def begin_stream(self) -> None:
        """An utterance over HTTP: drained for, like a session, and counted as being spoken."""
        self._streams += 1
        self.metrics.speaking.inc()

    def end_stream(self) -> None:
        self._streams -= 1
        self.metrics.speaking.dec()
        self._changed.set()

    def begin_drain(self) -> None:
        """Refuse new work and let what is pending finish. Idempotent."""
        if self.draining_until_s is None:
            _log.info(
                "draining",
                sessions=len(self._sessions),
                at_most_s=self.drain_timeout_s,
                sooner="signal again",
            )
            self.draining_until_s = asyncio.get_running_loop().time() + self.drain_timeout_s
            for session in tuple(self._sessions):
                session.drain(self.draining_until_s)

    async def drained(self) -> None:
        """Returns once no session and no stream is left."""
        while self._sessions or self._streams:
            self._changed.clear()
            await self._changed.wait()
