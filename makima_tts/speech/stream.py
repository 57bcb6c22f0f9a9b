"""An utterance's bridge between the event loop and an engine, in both directions.

In: text and cancels from the loop; chunks from the engine, from any thread. Out: the same on the other side,
bounded by credit. Does not know: what either side does with them.

The engine holds the :class:`SpeechSink`, the caller the :class:`SpeechStream`. Text is bounded by the session
(an utterance's limit), audio by credit: once ``buffer_samples`` are not taken yet, the sink has no credit,
and an engine leaves the utterance out of its next iteration. Chunks cross by ``call_soon_threadsafe`` only,
so neither side waits for a lock.
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

    It is empty where a piece turns out to be finished after its last sound was delivered: no sound is held
    back for that.

    ``synthesis_s``: the engine's time for it, for the real-time factor. ``waited_for_text``: it could not
    come sooner for want of text, so it is not late.
    """

    pcm: Pcm = field(repr=False)
    piece_index: int
    ends_piece: bool = False
    synthesis_s: float = 0.0
    waited_for_text: bool = False


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of one piece, or a part of it. The last part may be empty."""

    text: str = field(repr=False)
    ends_piece: bool = True


class _ThreadBridge:
    """The state that both halves share. Only the loop's thread changes a field, except ``put_samples``."""

    def __init__(self, buffer_samples: int, wake_engine: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer_samples = buffer_samples
        self.wake_engine = wake_engine
        self.parts: deque[TextPart] = deque()
        self.piece_is_open = False
        self.fed_chars = 0
        self.text_closed = False
        self.cancelled = False
        self.put_samples = 0  # changed by the engine's side only
        self.taken_samples = 0  # changed by the loop's side only
        self.chunks: deque[AudioChunk] = deque()
        self.finish_reason: FinishReason | None = None
        self.error: TtsError | None = None
        self.engine_event = asyncio.Event()
        self.caller_event = asyncio.Event()

    def on_loop(self, act: Callable[[], None]) -> None:
        """In the order of the calls, whichever threads they come from: all take the loop's queue."""
        # The loop may close between any check and the call: a service can stop while an engine generates.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(act)

    def tell_engine(self) -> None:
        self.engine_event.set()
        self.wake_engine()


class SpeechSink:
    """The engine's half; every method may be called from any thread unless it is ``async``."""

    def __init__(self, bridge: _ThreadBridge) -> None:
        self._bridge = bridge
        self._piece_parts: list[str] = []

    @property
    def cancelled(self) -> bool:
        """The caller has cancelled: stop, free everything, put nothing more."""
        return self._bridge.cancelled

    @property
    def has_credit(self) -> bool:
        bridge = self._bridge
        return bridge.put_samples - bridge.taken_samples < bridge.buffer_samples

    @property
    def text_closed(self) -> bool:
        """No text will come but what ``take_part`` or ``take_piece`` still returns."""
        return self._bridge.text_closed

    @property
    def fed_chars(self) -> int:
        """The length of all text so far, including what was taken."""
        return self._bridge.fed_chars

    def take_part(self) -> TextPart | None:
        """The next part of a piece, or None if none is there. For engines that speak incomplete pieces.

        A piece that was begun is ended, if only by an empty part, before ``text_closed`` is true.
        """
        # A cancel may clear them at any moment.
        with contextlib.suppress(IndexError):
            return self._bridge.parts.popleft()
        return None

    def take_piece(self) -> str | None:
        """The next piece, once all of it has come, else None."""
        while (part := self.take_part()) is not None:
            self._piece_parts.append(part.text)
            if part.ends_piece:
                piece = "".join(self._piece_parts)
                self._piece_parts.clear()
                return piece
        return None

    async def next_piece(self) -> str | None:
        """Waits for the next piece; None at the end of the text, or when cancelled. Loop only."""
        while not self._bridge.cancelled:
            if (piece := self.take_piece()) is not None:
                return piece
            if self._bridge.text_closed:
                return None
            await self._change()
        return None

    async def credit(self) -> bool:
        """Waits for credit; False when cancelled instead. Loop only."""
        while not self._bridge.cancelled:
            if self.has_credit:
                return True
            await self._change()
        return False

    async def _change(self) -> None:
        self._bridge.engine_event.clear()
        await self._bridge.engine_event.wait()

    def put(self, chunk: AudioChunk) -> None:
        """Never waits; an engine asks ``has_credit`` before it makes a chunk."""
        self._bridge.put_samples += chunk.pcm.size
        self._bridge.on_loop(lambda: self._deliver(chunk))

    def end(self, reason: FinishReason = "stop") -> None:
        """All audio was put."""
        self._bridge.on_loop(lambda: self._close(reason, None))

    def fail(self, error: TtsError) -> None:
        """No more audio; ``error`` is raised to the caller after the chunks that were put."""
        self._bridge.on_loop(lambda: self._close(None, error))

    def _deliver(self, chunk: AudioChunk) -> None:
        if not self._bridge.cancelled:
            self._bridge.chunks.append(chunk)
            self._bridge.caller_event.set()

    def _close(self, reason: FinishReason | None, error: TtsError | None) -> None:
        bridge = self._bridge
        if bridge.finish_reason is None and bridge.error is None:
            bridge.finish_reason, bridge.error = reason, error
            bridge.caller_event.set()


class SpeechStream:
    """The caller's half: feed pieces, take chunks, cancel. Loop only."""

    def __init__(self, bridge: _ThreadBridge) -> None:
        self._bridge = bridge

    @classmethod
    def create(
        cls, *, buffer_samples: int, wake_engine: Callable[[], None] = lambda: None
    ) -> tuple["SpeechStream", SpeechSink]:
        """Both halves. ``wake_engine`` is called, on the loop, when text, credit or a cancel arrives."""
        bridge = _ThreadBridge(buffer_samples, wake_engine)
        return cls(bridge), SpeechSink(bridge)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, once iteration has ended without an error."""
        return self._bridge.finish_reason

    def feed(self, text: str, *, ends_piece: bool = True) -> None:
        """Append a piece of cleaned text, or a part of one; ignored once finished or cancelled.

        The parts of a piece, joined, are the piece. They are split where words end, before white space, so
        that a part is tokenized alike whatever follows it.
        """
        bridge = self._bridge
        if bridge.text_closed:
            return
        bridge.parts.append(TextPart(text, ends_piece))
        bridge.piece_is_open = not ends_piece
        bridge.fed_chars += len(text)
        bridge.tell_engine()

    def finish(self) -> None:
        """No more text will come: an open piece is complete. Idempotent."""
        if self._bridge.piece_is_open:
            self.feed("")
        self._bridge.text_closed = True
        self._bridge.tell_engine()

    def cancel(self) -> None:
        """Drops all text and chunks at once. Idempotent; iteration raises Cancelled from now on."""
        bridge = self._bridge
        if bridge.cancelled:
            return
        bridge.cancelled = bridge.text_closed = True
        bridge.parts.clear()
        bridge.chunks.clear()
        bridge.tell_engine()
        bridge.caller_event.set()

    def __aiter__(self) -> "SpeechStream":
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk, in order. Raises what the engine failed with, or Cancelled.

        A chunk with NaN or Inf raises SynthesisError: it must never be cast to integers.
        """
        bridge = self._bridge
        while True:
            if bridge.cancelled:
                raise Cancelled("The utterance was cancelled.")
            if bridge.chunks:
                return self._take()
            if bridge.error is not None:
                raise bridge.error
            if bridge.finish_reason is not None:
                raise StopAsyncIteration
            bridge.caller_event.clear()
            await bridge.caller_event.wait()

    def _take(self) -> AudioChunk:
        bridge = self._bridge
        chunk = bridge.chunks.popleft()
        bridge.taken_samples += chunk.pcm.size
        bridge.tell_engine()
        if chunk.pcm.dtype != np.int16 and not np.isfinite(chunk.pcm).all():
            self.cancel()
            raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
        return chunk
