"""The consumer of speech: open an utterance, feed it, limit its rate, encode, account, end.

In: text, a finish, a cancel; the engine's chunks. Out: encoded chunks with their figures; metrics. Does not
know: sessions, sockets, HTTP, files, how a voice is found.

Flow control is the iteration: a chunk leaves the engine when the consumer asks for the next one. With a
listener, it is encoded when the listener has at most ``max_ahead_s`` left to play. Chunks that stay with the
engine use up the credit of the utterance, so the engine pauses it: a client that does not read costs no more
device time.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from makima_tts.alignment import Aligner, PieceAlignment
from makima_tts.audio import OutputFormat, Pcm, PcmEncoding, open_encoder
from makima_tts.errors import UtteranceTimeout
from makima_tts.metrics import Metrics
from makima_tts.speech import (
    AudioChunk,
    FinishReason,
    ListenerClock,
    SpeechEngine,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
)
from makima_tts.text.words import WordTime
from makima_tts.timings import WordTimer

# Of the last words of an utterance. Nothing else waits for an alignment.
_ALIGNMENT_WAIT_S = 1.0
_NO_SOUND: Pcm = np.zeros(0, np.float32)
_COMPRESSED = ("mp3", "opus", "flac", "aac")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class AudioOutput:
    """What the listener receives. ``speed``: how many times as fast as the engine, at the same pitch."""

    format: OutputFormat | PcmEncoding
    sample_rate_hz: int
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """``data`` may be empty: an encoder holds some samples back.

    ``duration_ms`` is the playing time of the engine's samples in this chunk, at the requested speed. It is 0
    for the rest that an encoder held at the end. ``words``: the next ones, to tell before this audio; a chunk
    may have them and nothing else.
    """

    data: bytes = field(repr=False)
    duration_ms: float
    piece_index: int
    ends_piece: bool = False
    synthesis_s: float = 0.0
    words: tuple[WordTime, ...] = ()


class UtteranceStream:
    """``feed``, ``finish`` and ``cancel`` work at any moment, also before the voice is loaded.

    The caller of ``cancel`` also cancels the task that iterates: it may wait for a voice, time or a socket.

    ``find_voice`` loads the voice; without it, the request holds one. ``wait_for_room`` opens the stream once
    the engine has room; without it, an engine without room raises RateLimited. ``listener`` is the clock of a
    client that plays the audio as it arrives, and outlives the utterance. ``chunk_timeout_s`` is the longest
    wait for each chunk. ``words``: how to tell when each word is spoken. ``ttfa_s`` counts from the creation;
    ``audio_s`` is the playing time so far.
    """

    def __init__(
        self,
        engine: SpeechEngine,
        request: UtteranceRequest,
        output: AudioOutput,
        metrics: Metrics,
        *,
        find_voice: Callable[[], Awaitable[VoicePrompt | None]] | None = None,
        wait_for_room: Callable[[UtteranceRequest], Awaitable[SpeechStream]] | None = None,
        listener: ListenerClock | None = None,
        max_ahead_s: float = math.inf,
        chunk_timeout_s: float | None = None,
        words: WordTimer | None = None,
        aligner: Aligner | None = None,
    ) -> None:
        self._engine = engine
        self._request = request
        self._output = output
        self._metrics = metrics
        self._find_voice = find_voice
        self._wait_for_room = wait_for_room
        self._listener = listener
        # Without a listener, a client is expected to play what it gets.
        self._clock = listener or ListenerClock()
        self._words = words
        self._aligned = asyncio.Event()
        self._aligner = aligner if aligner is not None and aligner.aligns(request.language) else None
        self._alignment: PieceAlignment | None = None
        # The wait for the next sound, as long as no word is due.
        self._until_words: asyncio.Timeout | None = None
        self._max_ahead_s = max_ahead_s
        self._chunk_timeout_s = chunk_timeout_s
        self._began_s = time.monotonic()
        self._speech: SpeechStream | None = None
        # Text that came before the engine could be given it.
        self._early_text: list[tuple[str, bool]] = []
        self._piece_is_open = False
        self._unspoken_pieces = 0
        self._last_piece = 0
        # A chunk that left the engine and waits for the listener.
        self._held: AudioChunk | None = None
        self._finished = False
        self._cancelled_s: float | None = None
        self._closed = False
        self.ttfa_s: float | None = None
        self.audio_s = 0.0
        self.synthesis_s = 0.0

    @property
    def cancelled(self) -> bool:
        return self._cancelled_s is not None

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended, once ``chunks`` has ended without an error."""
        return (self._speech and self._speech.finish_reason) or "stop"

    @property
    def warning(self) -> str | None:
        """See SpeechStream.warning."""
        return self._speech.warning if self._speech else None

    def feed(self, text: str, *, ends_piece: bool = True) -> None:
        """Append a piece, or a part of one. See SpeechStream.feed."""
        if not self._piece_is_open:
            if self._unspoken_pieces == 0:
                self._excuse_silence()
            self._unspoken_pieces += 1
        self._piece_is_open = not ends_piece
        if self._words is not None and not self._finished:
            self._words.add_text(text, ends_piece=ends_piece)
        if self._speech is None:
            self._early_text.append((text, ends_piece))
        else:
            self._speech.feed(text, ends_piece=ends_piece)

    def finish(self) -> None:
        """No more text will come."""
        self._finished = True
        if self._speech is not None:
            self._speech.finish()

    def cancel(self) -> None:
        """Stop the engine at once; the listener drops what it holds. Idempotent, and no-op after the end."""
        if self._closed or self.cancelled:
            return
        self._cancelled_s = time.monotonic()
        if self._listener is not None:
            self._listener.reset()
        if self._speech is not None:
            self._speech.cancel()

    async def chunks(self) -> AsyncGenerator[EncodedChunk, None]:
        """All of the utterance. Closing the generator frees the engine; raises TtsError."""
        self._metrics.speaking.inc()
        try:
            speech = await self._open()
            output, source_rate_hz = self._output, self._engine.facts.sample_rate_hz
            open_ = partial(open_encoder, output.format, source_rate_hz, output.sample_rate_hz)
            encoder = await self._run(partial(open_, speed=output.speed))
            while (chunk := await self._next(speech)) is not None:
                # Encoders write a header even for an empty chunk, and a header is not the first audio.
                data = await self._run(partial(encoder.encode, chunk.pcm)) if chunk.pcm.size else b""
                yield self._account(chunk, data)
            if self.ttfa_s is not None and (rest := await self._run(encoder.flush)):
                yield EncodedChunk(rest, 0.0, self._last_piece)
            async for words in self._last_words():
                yield EncodedChunk(b"", 0.0, self._last_piece, words=words)
        finally:
            self._close()

    async def silence(self, duration_s: float) -> bytes:
        """All of an utterance that has no words, without the engine."""
        output, pcm = self._output, np.zeros(round(duration_s * self._output.sample_rate_hz), np.float32)
        self.audio_s += duration_s

        def encode() -> bytes:
            encoder = open_encoder(output.format, output.sample_rate_hz, output.sample_rate_hz)
            return encoder.encode(pcm) + encoder.flush()

        return await self._run(encode)

    async def _open(self) -> SpeechStream:
        request = self._request
        if self._find_voice is not None:
            request = replace(request, voice=await self._find_voice())
        if self._words is not None and self._aligner is not None:
            rate_hz, speed = self._engine.facts.sample_rate_hz, self._output.speed
            self._aligner.start()
            self._alignment = PieceAlignment(self._aligner, self._words, rate_hz, speed, self._on_times)
        wait = self._wait_for_room
        self._speech = speech = self._engine.open(request) if wait is None else await wait(request)
        for text, ends_piece in self._early_text:
            speech.feed(text, ends_piece=ends_piece)
        if self._finished:
            speech.finish()
        if self.cancelled:
            speech.cancel()
        return speech

    async def _run(self, encode: Callable[[], _Result]) -> _Result:
        """FFmpeg takes a tenth of a second to load and a millisecond a frame: it runs in a worker thread."""
        uses_ffmpeg = self._output.speed != 1.0 or self._output.format in _COMPRESSED
        return await asyncio.to_thread(encode) if uses_ffmpeg else encode()

    async def _next(self, speech: SpeechStream) -> AudioChunk | None:
        """None at the end; no sound, if words are due before the next sound. Raises UtteranceTimeout."""
        try:
            async with asyncio.timeout(self._words_due_in_s()) as self._until_words:
                return await self._next_sound(speech)
        except TimeoutError:
            return AudioChunk(_NO_SOUND, self._last_piece)
        finally:
            self._until_words = None

    async def _next_sound(self, speech: SpeechStream) -> AudioChunk | None:
        if self._held is None:
            self._held = await self._take(speech)
        if self._held is not None:
            await self._wait_for_listener()
        chunk, self._held = self._held, None
        return chunk

    async def _take(self, speech: SpeechStream) -> AudioChunk | None:
        try:
            async with asyncio.timeout(self._chunk_timeout_s):
                return await anext(speech)
        except TimeoutError:
            raise UtteranceTimeout from None
        except StopAsyncIteration:
            return None

    async def _wait_for_listener(self) -> None:
        if self._listener is not None:
            excess_s = self._listener.ahead_s(time.monotonic()) - self._max_ahead_s
            if excess_s > 0:
                await asyncio.sleep(excess_s)

    def _account(self, chunk: AudioChunk, data: bytes) -> EncodedChunk:
        if chunk.waited_for_text:
            self._excuse_silence()
        duration_ms = chunk.pcm.size * 1000 / self._engine.facts.sample_rate_hz / self._output.speed
        if chunk.pcm.size:  # an empty chunk only says that its piece has ended: no listener waited for it
            self._measure(duration_ms / 1000)
        self._last_piece = chunk.piece_index
        self._unspoken_pieces -= chunk.ends_piece
        self.synthesis_s += chunk.synthesis_s
        if self._words is not None:
            if self._alignment is not None and (chunk.pcm.size or chunk.ends_piece):
                self._alignment.hear(chunk)
            self._words.add_audio(chunk.piece_index, duration_ms, ends_piece=chunk.ends_piece)
        return EncodedChunk(
            data, duration_ms, chunk.piece_index, chunk.ends_piece, chunk.synthesis_s, self._take_words()
        )

    def _measure(self, duration_s: float) -> None:
        now_s = time.monotonic()
        if self.ttfa_s is None:
            self.ttfa_s = now_s - self._began_s
        self.audio_s += duration_s
        self._metrics.audio_s.inc(duration_s)
        lateness_s = self._clock.deliver(duration_s, now_s)
        if self._listener is not None:
            self._metrics.lateness_s.observe(lateness_s)
            if lateness_s > 0:
                self._metrics.underruns.inc()

    async def _last_words(self) -> AsyncGenerator[tuple[WordTime, ...], None]:
        """Those whose alignment has not come yet, waiting a moment for it."""
        if self._words is None or self._alignment is None:
            return
        gives_up_s = time.monotonic() + (math.inf if self._words.lead_ms < 0 else _ALIGNMENT_WAIT_S)
        while self._alignment.busy and not self._words.all_told:
            left_s = gives_up_s - time.monotonic()
            if left_s <= 0:
                break
            self._aligned.clear()
            due_in_s = self._words_due_in_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s if due_in_s is None else min(left_s, due_in_s)):
                    await self._aligned.wait()
            if words := self._take_words():
                yield words
        self._alignment.close()
        await asyncio.sleep(0)  # what is done with a cancelled result
        if words := self._take_words():
            yield words

    def _on_times(self) -> None:
        self._aligned.set()
        wait, is_due = self._until_words, self._words_due_in_s() == 0.0
        if is_due and wait is not None and not wait.expired():
            wait.reschedule(asyncio.get_running_loop().time())

    def _take_words(self) -> tuple[WordTime, ...]:
        return () if self._words is None else self._words.take(self._position_ms())

    def _words_due_in_s(self) -> float | None:
        """None: no word is due before more audio or text comes."""
        wait_ms = math.inf if self._words is None else self._words.wait_ms(self._position_ms())
        return wait_ms / 1000 if wait_ms < math.inf else None

    def _position_ms(self) -> float:
        """Where the listener is in the audio of this utterance; negative before its beginning."""
        return 1000 * (self.audio_s - self._clock.ahead_s(time.monotonic()))

    def _excuse_silence(self) -> None:
        """A listener that ran dry for lack of text waits for text: the next chunk is not late."""
        if self._listener is not None and self._listener.ahead_s(time.monotonic()) == 0:
            self._listener.reset()

    def _close(self) -> None:
        self._closed = True
        if self._alignment is not None:
            self._alignment.close()
        self._metrics.speaking.dec()
        if self._speech is not None:
            self._speech.cancel()
        if self._cancelled_s is not None:
            self._metrics.cancel_to_silence_s.observe(time.monotonic() - self._cancelled_s)
