"""One utterance on its way from the engine to the session: opened, fed, encoded, paced.

In: pieces, a finish, a cancel; the engine's chunks. Out: reports to the session. Does not know: the wire,
the queue, other utterances.

It holds two bounds. It takes the next chunk only once the last one was written to the socket, and while the
listener has no more than ``max_ahead_s`` still to hear; otherwise the chunks stay with the engine, whose
credit runs out, so that a listener who is gone does not burn a minute of device time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from makima_tts.audio import PcmEncoder
from makima_tts.errors import Fault, SynthesisError, TtsError
from makima_tts.metrics import Metrics
from makima_tts.session import AudioReady, SpeechEnded, SpeechFailed, StartSpeech
from makima_tts.speech import (
    AudioChunk,
    ListenerClock,
    SpeechEngine,
    SpeechStream,
    UtteranceRequest,
    VoicePrompt,
)

_log = structlog.get_logger(__name__)

_Made = TypeVar("_Made")
Hear = Callable[[AudioReady | SpeechEnded | SpeechFailed], None]


class Pump:
    """``feed``, ``finish`` and ``cancel`` work at any moment, also before the voice is loaded.

    Whoever calls ``cancel`` also cancels the task that runs it: it may be waiting for time or the socket.
    """

    def __init__(
        self,
        order: StartSpeech,
        *,
        engine: SpeechEngine,
        find_voice: Callable[[], Awaitable[VoicePrompt | None]],
        hear: Hear,
        audio_written: Callable[[], Awaitable[None]],
        listener: ListenerClock,
        max_ahead_s: float,
        metrics: Metrics,
    ) -> None:
        self._order = order
        self._engine = engine
        self._find_voice = find_voice
        self._hear = hear
        self._audio_written = audio_written
        self._listener = listener
        self._max_ahead_s = max_ahead_s
        self._metrics = metrics
        self._stream: SpeechStream | None = None
        self._early_text: list[tuple[str, bool]] = []
        self._piece_is_open = False
        self._finished = False
        self._over = False
        self._cancelled_s: float | None = None
        self._last_piece = 0
        self._unspoken_pieces = 0

    def feed(self, text: str, ends_piece: bool = True) -> None:
        """A piece, or a part of one."""
        if not self._piece_is_open:
            self._begin_piece()
        self._piece_is_open = not ends_piece
        if self._stream is None:
            self._early_text.append((text, ends_piece))
        else:
            self._stream.feed(text, ends_piece=ends_piece)

    def _begin_piece(self) -> None:
        if self._unspoken_pieces == 0:
            self._wait_no_more()
        self._unspoken_pieces += 1

    def _wait_no_more(self) -> None:
        """Text has come. If the listener has run dry, it was for want of it, and nobody is late."""
        if self._listener.ahead_s(time.monotonic()) == 0:
            self._listener.reset()

    def finish(self) -> None:
        self._finished = True
        if self._stream is not None:
            self._stream.finish()

    def cancel(self) -> None:
        """Nothing is reported from now on; the engine is told at once. Idempotent."""
        if self._over:
            return
        self._over, self._cancelled_s = True, time.monotonic()
        self._listener.reset()
        if self._stream is not None:
            self._stream.cancel()

    async def run(self) -> None:
        """Speak to the end. Reports every ending but a cancel; raises nothing but cancellation."""
        self._metrics.speaking.inc()
        try:
            await self._speak()
        except TtsError as error:
            if error.fault is Fault.SERVER:
                _log.warning("utterance_failed", code=error.code)
            self._end(SpeechFailed(self._order.utterance_id, error))
        except Exception:
            _log.exception("utterance_failed")
            failure = SynthesisError("The utterance failed; try again.")
            self._end(SpeechFailed(self._order.utterance_id, failure))
        finally:
            self._metrics.speaking.dec()
            if self._stream is not None:
                self._stream.cancel()
            if self._cancelled_s is not None:
                self._metrics.cancel_to_silence_s.observe(time.monotonic() - self._cancelled_s)

    async def _speak(self) -> None:
        stream = self._open(await self._find_voice())
        encoder = await self._work(self._new_encoder)
        async for chunk in stream:
            await self._keep_pace()
            self._deliver(await self._work(partial(encoder.encode, chunk.pcm)), chunk)
            await self._audio_written()
        self._deliver_rest(await self._work(encoder.flush))
        self._end(SpeechEnded(self._order.utterance_id, stream.finish_reason or "stop"))

    def _open(self, voice: VoicePrompt | None) -> SpeechStream:
        order = self._order
        self._stream = self._engine.open(
            UtteranceRequest(order.utterance_id, order.language, voice, order.seed)
        )
        for text, ends_piece in self._early_text:
            self._stream.feed(text, ends_piece=ends_piece)
        if self._finished:
            self._stream.finish()
        return self._stream

    def _new_encoder(self) -> PcmEncoder:
        wanted, source_rate_hz = self._order.format, self._engine.facts.sample_rate_hz
        return PcmEncoder(source_rate_hz, wanted.sample_rate_hz, wanted.encoding, speed=wanted.speed)

    async def _work(self, encode: Callable[[], _Made]) -> _Made:
        """Stretching takes FFmpeg, a tenth of a second to load; a worker thread does it."""
        return encode() if self._order.format.speed == 1.0 else await asyncio.to_thread(encode)

    async def _keep_pace(self) -> None:
        excess_s = self._listener.ahead_s(time.monotonic()) - self._max_ahead_s
        if excess_s > 0:
            await asyncio.sleep(excess_s)

    def _deliver(self, data: bytes, chunk: AudioChunk) -> None:
        if chunk.waited_for_text:
            self._wait_no_more()
        source_ms = chunk.pcm.size * 1000 / self._engine.facts.sample_rate_hz / self._order.format.speed
        if source_ms:  # an empty chunk says that its piece is over: nobody waited for it
            self._account(source_ms / 1000)
        self._last_piece = chunk.piece_index
        self._unspoken_pieces -= chunk.ends_piece
        self._report(
            AudioReady(
                utterance_id=self._order.utterance_id,
                data=data,
                samples=len(data) // self._order.format.bytes_per_sample,
                source_ms=source_ms,
                piece_index=chunk.piece_index,
                ends_piece=chunk.ends_piece,
                synthesis_s=chunk.synthesis_s,
            )
        )

    def _deliver_rest(self, data: bytes) -> None:
        """What the encoder still held."""
        samples = len(data) // self._order.format.bytes_per_sample
        if samples:
            self._report(
                AudioReady(self._order.utterance_id, data, samples, 0.0, self._last_piece, False, 0.0)
            )

    def _account(self, duration_s: float) -> None:
        lateness_s = self._listener.deliver(duration_s, time.monotonic())
        self._metrics.lateness_s.observe(lateness_s)
        self._metrics.audio_s.inc(duration_s)
        if lateness_s > 0:
            self._metrics.underruns.inc()

    def _report(self, report: AudioReady) -> None:
        if not self._over:
            self._hear(report)

    def _end(self, report: SpeechEnded | SpeechFailed) -> None:
        if not self._over:
            self._over = True
            self._hear(report)
