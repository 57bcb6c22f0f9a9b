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


class SpeechSink:
    """The engine's half; every method may be called from any thread unless it is ``async``.

    ``cancelled``: the caller has cancelled; stop, free everything, put nothing more. ``text_closed``: no text
    will come but what ``take_part`` or ``take_piece`` still returns. ``fed_chars``: the length of all text so
    far, including what was taken. ``wake_engine`` is called, on the loop, when text, credit or a cancel
    arrives.
    """

    def __init__(self, buffer_samples: int, wake_engine: Callable[[], None]) -> None:
        # Only the loop's thread changes these; the caller's half uses them, too.
        self.cancelled = False
        self.text_closed = False
        self.fed_chars = 0
        self.piece_is_open = False
        self.parts: deque[TextPart] = deque()
        self.taken_samples = 0
        self.chunks: deque[AudioChunk] = deque()
        self.finish_reason: FinishReason | None = None
        self.error: TtsError | None = None
        self.for_caller = asyncio.Event()
        # Only the engine's side changes these.
        self.put_samples = 0
        self._piece_parts: list[str] = []
        self._buffer_samples = buffer_samples
        self._wake_engine = wake_engine
        self._for_engine = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def has_credit(self) -> bool:
        return self.put_samples - self.taken_samples < self._buffer_samples

    def take_part(self) -> TextPart | None:
        """The next part of a piece, or None if none is there. For engines that speak incomplete pieces.

        A piece that was begun is ended, if only by an empty part, before ``text_closed`` is true.
        """
        # A cancel may clear them at any moment.
        with contextlib.suppress(IndexError):
            return self.parts.popleft()
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
        while not self.cancelled:
            if (piece := self.take_piece()) is not None:
                return piece
            if self.text_closed:
                return None
            await self._change()
        return None

    async def credit(self) -> bool:
        """Waits for credit; False when cancelled instead. Loop only."""
        while not self.cancelled:
            if self.has_credit:
                return True
            await self._change()
        return False

    async def _change(self) -> None:
        self._for_engine.clear()
        await self._for_engine.wait()

    def wake(self) -> None:
        """Something has changed for the engine. Loop only."""
        self._for_engine.set()
        self._wake_engine()

    def put(self, chunk: AudioChunk) -> None:
        """Never waits; an engine asks ``has_credit`` before it makes a chunk."""
        self.put_samples += chunk.pcm.size
        self._on_loop(lambda: self._deliver(chunk))

    def end(self, reason: FinishReason = "stop") -> None:
        """All audio was put."""
        self._on_loop(lambda: self._close(reason, None))

    def fail(self, error: TtsError) -> None:
        """No more audio; ``error`` is raised to the caller after the chunks that were put."""
        self._on_loop(lambda: self._close(None, error))

    def _on_loop(self, act: Callable[[], None]) -> None:
        """In the order of the calls, whichever threads they come from: all take the loop's queue."""
        # The loop may close between any check and the call: a service can stop while an engine generates.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)

    def _deliver(self, chunk: AudioChunk) -> None:
        if not self.cancelled:
            self.chunks.append(chunk)
            self.for_caller.set()

    def _close(self, reason: FinishReason | None, error: TtsError | None) -> None:
        if self.finish_reason is None and self.error is None:
            self.finish_reason, self.error = reason, error
            self.for_caller.set()


class SpeechStream:
    """The caller's half: feed pieces, take chunks, cancel. Loop only."""

    def __init__(self, sink: SpeechSink) -> None:
        self._sink = sink

    @classmethod
    def create(
        cls, *, buffer_samples: int, wake_engine: Callable[[], None] = lambda: None
    ) -> tuple["SpeechStream", SpeechSink]:
        """Both halves."""
        sink = SpeechSink(buffer_samples, wake_engine)
        return cls(sink), sink

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, once iteration has ended without an error."""
        return self._sink.finish_reason

    def feed(self, text: str, *, ends_piece: bool = True) -> None:
        """Append a piece of cleaned text, or a part of one; ignored once finished or cancelled.

        The parts of a piece, joined, are the piece. They are split where words end, before white space, so
        that a part is tokenized alike whatever follows it.
        """
        sink = self._sink
        if sink.text_closed:
            return
        sink.parts.append(TextPart(text, ends_piece))
        sink.piece_is_open = not ends_piece
        sink.fed_chars += len(text)
        sink.wake()

    def finish(self) -> None:
        """No more text will come: an open piece is complete. Idempotent."""
        if self._sink.piece_is_open:
            self.feed("")
        self._sink.text_closed = True
        self._sink.wake()

    def cancel(self) -> None:
        """Drops all text and chunks at once. Idempotent; iteration raises Cancelled from now on."""
        sink = self._sink
        if sink.cancelled:
            return
        sink.cancelled = sink.text_closed = True
        sink.parts.clear()
        sink.chunks.clear()
        sink.wake()
        sink.for_caller.set()

    def __aiter__(self) -> "SpeechStream":
        return self

    async def __anext__(self) -> AudioChunk:
        """The next chunk, in order. Raises what the engine failed with, or Cancelled.

        A chunk with NaN or Inf raises SynthesisError: it must never be cast to integers.
        """
        sink = self._sink
        while True:
            if sink.cancelled:
                raise Cancelled("The utterance was cancelled.")
            if sink.chunks:
                return self._take()
            if sink.error is not None:
                raise sink.error
            if sink.finish_reason is not None:
                raise StopAsyncIteration
            sink.for_caller.clear()
            await sink.for_caller.wait()

    def _take(self) -> AudioChunk:
        chunk = self._sink.chunks.popleft()
        self._sink.taken_samples += chunk.pcm.size
        self._sink.wake()
        if chunk.pcm.dtype != np.int16 and not np.isfinite(chunk.pcm).all():
            self.cancel()
            raise SynthesisError("The engine made audio that is not a number; nothing of it was sent.")
        return chunk
