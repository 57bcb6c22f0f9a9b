"""One utterance as it arrives.

In: chunks and the terminal message, from the client's reader. Out: an async iterator of chunks, a file,
sound; and what was measured on the way. Does not know: sockets, other utterances.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from makima_tts.client.failures import UtteranceCancelled, cancelled_here
from makima_tts.client.heard import Heard, heard_of
from makima_tts.client.playing import Player
from makima_tts.client.saving import wav_file
from makima_tts.client.writing import Manuscript
from makima_tts.protocol import AudioFormat, Complete, Sentence

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
    """Iterate once, or ``save``, ``play`` or ``read`` it.

    Ends after ``complete``; raises ServiceError, UtteranceCancelled or ConnectionLost. A caller who leaves
    early cancels: audio that nobody takes would hold up the utterances behind it.
    """

    def __init__(
        self, utterance_id: str, manuscript: Manuscript, audio_format: AudioFormat, send_cancel: SendCancel
    ) -> None:
        self.utterance_id = utterance_id
        self.audio_format = audio_format
        self.complete: Complete | None = None
        self.sentences: list[Sentence] = []
        self.sent_s: float | None = None
        self.first_audio_s: float | None = None
        # The service has begun to speak it: it is not asked for again.
        self.begun = False
        self.cancelled = False
        self.buffered_bytes = 0
        self.received_bytes = 0
        self._manuscript = manuscript
        self._send_cancel = send_cancel
        self._player: Player | None = None
        self._known_played_ms: int | None = None
        self._chunks: deque[SpeechChunk] = deque()
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """The terminal message has come; chunks may still wait to be taken."""
        return self._over.is_set()

    @property
    def audible(self) -> bool:
        """Whether anything of it may still be heard."""
        return not self.over or bool(self._chunks) or self._player is not None

    @property
    def ttfa_s(self) -> float | None:
        """``speak`` sent → first PCM byte received, by this side's clock; None without audio."""
        if self.sent_s is None or self.first_audio_s is None:
            return None
        return self.first_audio_s - self.sent_s

    @property
    def audio_ms(self) -> int:
        """How much audio has arrived."""
        return self.audio_format.duration_ms(self.received_bytes // self.audio_format.bytes_per_sample)

    async def read(self) -> bytes:
        """All of its PCM."""
        return b"".join([chunk.pcm async for chunk in self])

    async def save(self, path: Path | str) -> Path:
        """Write it to a WAV file as it arrives; the file has its name once it is whole."""
        with wav_file(Path(path), self.audio_format) as write:
            async for chunk in self:
                write(chunk.pcm)
        return Path(path)

    async def play(self, player: Player | None = None) -> None:
        """Play it, through the sound card or this player, to its end; a cancel silences it at once.

        Raises PlayerUnavailable.
        """
        with nullcontext(player) if player else Player(self.audio_format) as card:
            await self._play(card)
        if self._failure is not None:
            raise self._failure

    async def _play(self, player: Player) -> None:
        self._player = player
        player.begin()
        try:
            async for chunk in self:
                await player.write(chunk.pcm)
            await player.drain()
        finally:
            if not self.cancelled:
                self._known_played_ms = player.played_ms
            self._player = None

    async def cancel(self, played_ms: int | None = None) -> None:
        """Silence it: what is buffered is dropped at once, and iteration raises UtteranceCancelled.

        ``played_ms``: how much of it was heard, for the service to answer with; a player knows by itself.
        """
        if self.cancelled:
            return
        self.silence(played_ms)
        if self.over:
            self._end_cancelled()
        else:
            await self._send_cancel(self.utterance_id, self._known_played_ms)

    async def interrupt(self, played_ms: int | None = None) -> Heard:
        """Cancel it, and say how much of its text was heard."""
        await self.cancel(played_ms)
        await self._over.wait()
        return self.heard()

    def heard(self) -> Heard:
        """Its text, before and after the moment that was played last.

        By the service's account, if it was cancelled there; else by where its sentences lie in the audio,
        of which all that arrived counts as played if nobody said otherwise.
        """
        match self._failure:
            case UtteranceCancelled(text_spoken=str(spoken), text_remaining=str(remaining)):
                return Heard(spoken, remaining)
        played_ms = self.audio_ms if self.played_ms is None else self.played_ms
        return heard_of(self._manuscript.text, self.sentences, played_ms)

    @property
    def played_ms(self) -> int | None:
        """How much of it was played; None if no player of ours plays it, and nobody said."""
        return self._known_played_ms if self._player is None else self._player.played_ms

    def silence(self, played_ms: int | None) -> None:
        """This side's part of a cancel: nothing of it is heard any more."""
        self._known_played_ms = self.played_ms if played_ms is None else played_ms
        self.cancelled = True
        self._drop_audio()
        if self._player is not None:
            self._player.silence()

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
        self.begun = True
        self.first_audio_s = self.first_audio_s or now_s
        if self.cancelled:
            return
        self._chunks.append(SpeechChunk(pcm, self.utterance_id, now_s))
        self.buffered_bytes += len(pcm)
        self.received_bytes += len(pcm)
        self._news.set()
        while self.buffered_bytes > MAX_BUFFERED_BYTES:
            self._room.clear()
            await self._room.wait()

    def finish(self, complete: Complete) -> None:
        """Everything was spoken."""
        if self.over:
            return
        self.complete = complete
        self._end()
        if self.cancelled:
            self._end_cancelled()

    def fail(self, failure: Exception) -> None:
        """It ends here; chunks that came before are still handed out, but not of a cancelled utterance."""
        if not self.over:
            self._failure = failure
            self._end()

    def _end_cancelled(self) -> None:
        """The service had said all of it before it could hear of the cancel."""
        words = "The utterance was cancelled by this side, after the service had sent all of it."
        played_ms = self._known_played_ms
        self._failure = self._failure or cancelled_here(self.utterance_id, words, played_ms)
        self._news.set()

    def _end(self) -> None:
        self._over.set()
        self._news.set()
