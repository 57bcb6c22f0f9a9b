"""One utterance as it arrives.

In: chunks and the terminal message, from the connection's reader. Out: an async iterator of chunks, and what
was measured on the way. Does not know: sockets, other utterances.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from makima_tts.protocol import Complete, Sentence

# A listener that falls behind stops the reader here, and so, through TCP, the service.
MAX_BUFFERED_BYTES = 8 * 1024 * 1024

SendCancel = Callable[[str, int | None], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """``pcm``: whole samples, mono, little endian, in the session's encoding.

    ``received_s`` is when it left the socket, on ``time.monotonic``.
    """

    pcm: bytes = field(repr=False)
    utterance_id: str
    received_s: float


class Speech:
    """Iterate once. Ends after ``complete``; raises ServiceError, UtteranceCancelled or ConnectionLost.

    A caller who leaves early cancels: audio that nobody takes would hold up the utterances behind it.
    """

    def __init__(self, utterance_id: str, send_cancel: SendCancel) -> None:
        self.utterance_id = utterance_id
        self.complete: Complete | None = None
        self.sentences: list[Sentence] = []
        self.sent_s: float | None = None
        self.first_audio_s: float | None = None
        self._send_cancel = send_cancel
        self._chunks: deque[SpeechChunk] = deque()
        self.buffered_bytes = 0
        self._cancelled = False
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def over(self) -> bool:
        """The terminal message has come; chunks may still wait to be taken."""
        return self.complete is not None or self._failure is not None

    @property
    def ttfa_s(self) -> float | None:
        """``speak`` sent → first PCM byte received, by this side's clock; None without audio."""
        if self.sent_s is None or self.first_audio_s is None:
            return None
        return self.first_audio_s - self.sent_s

    async def cancel(self, played_ms: int | None = None) -> None:
        """Silence it: what is buffered is dropped at once, and iteration raises UtteranceCancelled.

        ``played_ms``: how much of it was heard, for the service to answer with. Without effect once over.
        """
        if self._cancelled or self.over:
            return
        self._cancelled = True
        self._drop_audio()
        await self._send_cancel(self.utterance_id, played_ms)

    def __aiter__(self) -> "Speech":
        return self

    async def __anext__(self) -> SpeechChunk:
        while True:
            if self._chunks:
                return self._take()
            if self._failure is not None:
                raise self._failure
            if self.complete is not None:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    def _take(self) -> SpeechChunk:
        chunk = self._chunks.popleft()
        self.buffered_bytes -= len(chunk.pcm)
        self._room.set()
        return chunk

    def _drop_audio(self) -> None:
        self._chunks.clear()
        self.buffered_bytes = 0
        self._room.set()

    async def deliver(self, pcm: bytes) -> None:
        """Audio from the reader; waits while the listener is too far behind."""
        now_s = time.monotonic()
        self.first_audio_s = self.first_audio_s or now_s
        if self._cancelled:
            return
        self._chunks.append(SpeechChunk(pcm, self.utterance_id, now_s))
        self.buffered_bytes += len(pcm)
        self._news.set()
        while self.buffered_bytes > MAX_BUFFERED_BYTES:
            self._room.clear()
            await self._room.wait()

    def finish(self, complete: Complete) -> None:
        """Everything was spoken."""
        if not self.over:
            self.complete = complete
            self._news.set()

    def fail(self, failure: Exception) -> None:
        """It ends here; chunks that came before are still handed out, but not of a cancelled utterance."""
        if not self.over:
            self._failure = failure
            self._news.set()
