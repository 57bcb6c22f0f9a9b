"""The frames that wait to be written to one socket, in order.

In: frames from the session's effects. Out: frames to the writer. Does not know: sockets, sessions.

Audio is bounded by its producer, which waits for ``audio_written``: at most one chunk waits here, so a
terminal message is never far behind a cancel. Answers are bounded by their cause: the reader waits for
``answers_written`` once too many wait here, so a client that asks without reading stalls itself.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

_MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ContentFrame:
    """Audio as bytes, or as JSON that holds them (``audio``); or any other message."""

    content: bytes | str = field(repr=False)
    audio: bool = False


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The last one."""

    code: int


Frame = ContentFrame | CloseFrame


@dataclass(slots=True)
class Outbox:
    """One writer takes frames; others put them and wait for room. Event loop only."""

    _frames: deque[Frame] = field(default_factory=deque)
    _audio_frames: int = 0
    _answer_bytes: int = 0
    _abandoned: bool = False
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: asyncio.Condition = field(default_factory=asyncio.Condition)

    def put(self, frame: Frame) -> None:
        """Dropped once abandoned."""
        if self._abandoned:
            return
        self._frames.append(frame)
        self._count(frame, 1)
        self._filled.set()

    async def take(self) -> Frame:
        """The next frame. It counts as waiting until ``written``."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return self._frames.popleft()

    async def written(self, frame: Frame) -> None:
        self._count(frame, -1)
        async with self._drained:
            self._drained.notify_all()

    async def abandon(self) -> None:
        """The writer has ended: no caller waits for room any more."""
        self._abandoned = True
        self._frames.clear()
        async with self._drained:
            self._drained.notify_all()

    async def audio_written(self) -> None:
        """Waits until no audio waits here."""
        async with self._drained:
            await self._drained.wait_for(lambda: self._abandoned or self._audio_frames == 0)

    async def answers_written(self) -> None:
        """Waits until there is room for answers."""
        if self._has_too_many_answers():
            async with self._drained:
                await self._drained.wait_for(lambda: not self._has_too_many_answers())

    def _has_too_many_answers(self) -> bool:
        return not self._abandoned and self._answer_bytes > _MAX_ANSWER_BYTES

    def _count(self, frame: Frame, sign: int) -> None:
        if isinstance(frame, CloseFrame):
            return
        if frame.audio:
            self._audio_frames += sign
        else:
            self._answer_bytes += sign * len(frame.content)
