"""Requests over HTTP that wait until the engine has room for them: they are not in real time.

In: requests of utterances. Out: streams of the engine, first come first served. Does not know: routes,
bodies, sessions: a WebSocket never waits, it gets RATE_LIMITED at once.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

from makima_tts.errors import RateLimited
from makima_tts.speech import SpeechEngine, SpeechStream, UtteranceRequest

_POLL_S = 0.02
_FEWEST_S, _MOST_S = 1.0, 60.0  # of Retry-After: OpenAI's clients ignore a longer one
_SAMPLES = 32


@dataclass(slots=True)
class WaitingLine:
    """``max_waiting`` requests, each for at most ``max_wait_s``; ``waiting``: those that are not open yet.

    A cancelled request leaves its place.
    """

    engine: SpeechEngine
    max_waiting: int
    max_wait_s: float
    waiting: int = 0
    # Fair: it is acquired in the order of the requests.
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # For how long the last ones were the first in the line.
    _turns_s: deque[float] = field(default_factory=lambda: deque([_FEWEST_S], maxlen=_SAMPLES))

    async def open(self, request: UtteranceRequest) -> SpeechStream:
        """See SpeechEngine.open; RateLimited is raised when the line is full, or the time is over."""
        if self.waiting >= self.max_waiting:
            raise self._busy()
        self.waiting += 1
        try:
            async with asyncio.timeout(self.max_wait_s), self._turn:
                return await self._open_when_there_is_room(request)
        except TimeoutError:
            raise self._busy() from None
        finally:
            self.waiting -= 1

    async def _open_when_there_is_room(self, request: UtteranceRequest) -> SpeechStream:
        loop, health = asyncio.get_running_loop(), self.engine.health
        began_s, refused = loop.time(), False
        while True:
            try:
                stream = self.engine.open(request)
            except RateLimited as refusal:
                refused, before = True, health().active
                until_s = loop.time() + (refusal.retry_after_s or _FEWEST_S)
                # An engine counts those whom it refuses: it is asked again only if it may have room.
                while health().active >= before and loop.time() < until_s:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
            else:
                if refused or self.waiting > 1:
                    self._turns_s.append(loop.time() - began_s)
                return stream

    def _busy(self) -> RateLimited:
        """With the time until it would be this request's turn, if it stood in the line."""
        return RateLimited(
            f"This server is busy, and {self.waiting} requests wait before this one; try again later.",
            retry_after_s=min(max((self.waiting + 1) * fmean(self._turns_s), _FEWEST_S), _MOST_S),
        )
