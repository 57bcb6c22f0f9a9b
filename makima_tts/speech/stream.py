"""One utterance's crossing between the event loop and an engine, in both directions.

In: pieces and cancels from the loop; chunks from the engine, from any thread. Out: the same on the other
side, bounded by credit. Does not know: what either side does with them.

The engine holds the :class:`SpeechSink`, the caller the :class:`SpeechStream`. Text is bounded by the
session (it never grows past an utterance's limit); audio is bounded by credit: once ``buffer_samples``
lie undelivered, the sink has no credit, and an engine leaves the utterance out of its next step. Chunks
cross by ``call_soon_threadsafe`` only, so nobody ever waits for a lock.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from makima_tts.audio import Pcm
from makima_tts.errors import Cancelled, SynthesisError, TtsError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """``pcm``: [samples], mono, at the engine's rate. A chunk belongs to one piece.

    It is empty where a piece turns out to be over after its last sound was handed over: no sound is held
    back for that.

    ``synthesis_s``: the engine's own time for it, of which RTF is made. ``waited_for_text``: it could not
    come sooner, for want of text; nobody is late.
    """

    pcm: Pcm = field(repr=False)
    piece_index: int
    ends_piece: bool = False
    synthesis_s: float = 0.0
    waited_for_text: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Text of one piece: the whole of it if it both begins and ends it. The last one may be empty."""

    text: str = field(repr=False)
    begins_piece: bool = True
    ends_piece: bool = True


class _Crossing:
    """The state both halves share. Every field is only changed on the loop's thread, but ``put``."""

    def __init__(self, buffer_samples: int, wake_engine: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer_samples = buffer_samples
        self.wake_engine = wake_engine
        self.parts: deque[Part] = deque()
        self.piece_is_open = False
        self.fed_chars = 0
        self.text_closed = False
        self.cancelled = False
        self.put_samples = 0  # written by the engine's side only
        self.taken_samples = 0  # written by the loop's side only
        self.chunks: deque[AudioChunk] = deque()
        self.finish_reason: FinishReason | None = None
        self.error: TtsError | None = None
        self.for_engine = asyncio.Event()
        self.for_caller = asyncio.Event()

    def on_loop(self, act: Callable[[], None]) -> None:
        """Acts happen in the order they were asked for, whichever threads asked: all take the same queue."""
        # The loop closes between any check and the call, when a service stops while an engine still speaks.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(act)

    def tell_engine(self) -> None:
        self.for_engine.set()
        self.wake_engine()


class SpeechSink:
    """The engine's half; every method may be called from any thread unless it is ``async``."""

    def __init__(self, crossing: _Crossing) -> None:
        self._crossing = crossing
        self._gathered: list[str] = []

    @property
    def cancelled(self) -> bool:
        """True from the moment the caller cancelled: stop, free everything, say nothing more."""
        return self._crossing.cancelled

    @property
    def has_credit(self) -> bool:
        crossing = self._crossing
        return crossing.put_samples - crossing.taken_samples < crossing.buffer_samples

    @property
    def text_closed(self) -> bool:
        """No piece will come but those that ``take_piece`` still holds."""
        return self._crossing.text_closed

    @property
    def fed_chars(self) -> int:
        """The length of all text so far, of what was taken too."""
        return self._crossing.fed_chars

    def take_part(self) -> Part | None:
        """The next part of a piece, or None when there is none now. For who can speak a piece that grows.

        A piece that was begun is ended, if only by an empty part, before ``text_closed`` is true.
        """
        # Cleared by the loop at any moment, when it is cancelled.
        with contextlib.suppress(IndexError):
            return self._crossing.parts.popleft()
        return None

    def take_piece(self) -> str | None:
        """The next piece, once all of it has come, or None when there is none now."""
        while (part := self.take_part()) is not None:
            self._gathered.append(part.text)
            if part.ends_piece:
                piece = "".join(self._gathered)
                self._gathered.clear()
                return piece
        return None

    async def next_piece(self) -> str | None:
        """Waits for the next piece; None when the text is closed and used up, or cancelled. Loop only."""
        while not self._crossing.cancelled:
            if (piece := self.take_piece()) is not None:
                return piece
            if self._crossing.text_closed:
                return None
            await self._change()
        return None

    async def credit(self) -> bool:
        """Waits for credit; False when cancelled instead. Loop only."""
        while not self._crossing.cancelled:
            if self.has_credit:
                return True
            await self._change()
        return False

    async def _change(self) -> None:
        self._crossing.for_engine.clear()
        await self._crossing.for_engine.wait()

    def put(self, chunk: AudioChunk) -> None:
        """Hand a chunk over. Never waits; an engine asks ``has_credit`` before it makes one."""
        self._crossing.put_samples += chunk.pcm.size
        self._crossing.on_loop(lambda: self._deliver(chunk))

    def end(self, reason: FinishReason = "stop") -> None:
        """All audio was handed over."""
        self._crossing.on_loop(lambda: self._close(reason, None))

    def fail(self, error: TtsError) -> None:
        """No more audio; the caller meets ``error`` after the chunks that were handed over."""
        self._crossing.on_loop(lambda: self._close(None, error))

    def _deliver(self, chunk: AudioChunk) -> None:
        if not self._crossing.cancelled:
            self._crossing.chunks.append(chunk)
            self._crossing.for_caller.set()

    def _close(self, reason: FinishReason | None, error: TtsError | None) -> None:
        crossing = self._crossing
        if crossing.finish_reason is None and crossing.error is None:
            crossing.finish_reason, crossing.error = reason, error
            crossing.for_caller.set()


class SpeechStream:
    """The caller's half: feed pieces, take chunks, cancel. Loop only."""

    def __init__(self, crossing: _Crossing) -> None:
        self._crossing = crossing

    @classmethod
    def create(
        cls, *, buffer_samples: int, wake_engine: Callable[[], None] = lambda: None
    ) -> tuple["SpeechStream", SpeechSink]:
        """Both halves. ``wake_engine`` is called, on the loop, when text, credit or a cancel arrives."""
        crossing = _Crossing(buffer_samples, wake_engine)
        return cls(crossing), SpeechSink(crossing)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, once iteration has ended without an error."""
        return self._crossing.finish_reason

    def feed(self, text: str, *, ends_piece: bool = True) -> None:
        """Append a piece of cleaned text, or a part of one; ignored once finished or cancelled.

        The parts of a piece, put together, are the piece. They are cut where words end, before white space:
        what a part says is not changed by the next.
        """
        crossing = self._crossing
        if crossing.text_closed:
            return
        crossing.parts.append(Part(text, not crossing.piece_is_open, ends_piece))
        crossing.piece_is_open = not ends_piece
        crossing.fed_chars += len(text)
        crossing.tell_engine()

    def finish(self) -> None:
        """No more text will come: what was begun is whole. Idempotent."""
        if self._crossing.piece_is_open:
            self.feed("")
        self._crossing.text_closed = True
        self._crossing.tell_engine()

    def cancel(self) -> None:
        """Drop everything, at once. Idempotent; iteration raises Cancelled from now on."""
        crossing = self._crossing
        if crossing.cancelled:
            return
        crossing.cancelled = crossing.text_closed = True
        crossing.parts.clear()
        crossing.chunks.clear()
        crossing.tell_engine()
        crossing.for_caller.set()

    def __aiter__(self) -> "SpeechStream":
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk, in order. Raises what the engine failed with, or Cancelled.

        A chunk with NaN or Inf raises SynthesisError: it must never be cast to integers.
        """
        crossing = self._crossing
        while True:
            if crossing.cancelled:
                raise Cancelled("The utterance was cancelled.")
            if crossing.chunks:
                return self._take()
            if crossing.error is not None:
                raise crossing.error
            if crossing.finish_reason is not None:
                raise StopAsyncIteration
            crossing.for_caller.clear()
            await crossing.for_caller.wait()

    def _take(self) -> AudioChunk:
        crossing = self._crossing
        chunk = crossing.chunks.popleft()
        crossing.taken_samples += chunk.pcm.size
        crossing.tell_engine()
        if chunk.pcm.dtype != np.int16 and not np.isfinite(chunk.pcm).all():
            self.cancel()
            raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
        return chunk
