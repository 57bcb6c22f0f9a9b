"""One WebSocket: a reader, a writer and a task for each utterance; performs the session's effects.

In: frames of the socket; reports of the engine. Out: frames, in the order of the session's effects. Does
not know: the conversation (the session does), how audio is made, how a dialect words its frames.

A task is always in ``receive()``: nothing is spoken in the receive loop.
"""

import asyncio
import itertools
import math
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from makima_tts.api.service import RETRY_AFTER_S, Service
from makima_tts.errors import RateLimited, SynthesisError, TtsError
from makima_tts.protocol import SUBPROTOCOL, ErrorMessage, serialize
from makima_tts.session import effects, inputs
from makima_tts.session.machine import Session
from makima_tts.speaking import AudioOutput, EncodedChunk, UtteranceStream
from makima_tts.speech import ListenerClock, UtteranceRequest, VoicePrompt
from makima_tts.timings import WordTimer

NOT_TEXT = inputs.Malformed("Binary frames mean nothing here; send JSON in text frames.")
_MAX_ANSWER_BYTES = 64 * 1024
_CLOSE_NO_CAPACITY = 1013
_CLOSE_TOO_OFTEN = 4429
_log = structlog.get_logger(__name__)


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


class Outbox:
    """The frames that wait to be written to one socket, in order. One writer takes them; event loop only.

    Audio is bounded by its producer, which waits for ``audio_written``: at most one chunk waits here, so a
    terminal message is never far behind a cancel. Answers are bounded by their cause: the reader waits for
    ``answers_written`` once too many wait here, so a client that asks without reading stalls itself.
    """

    def __init__(self) -> None:
        self._frames = asyncio.Queue[Frame]()
        self._audio_frames = 0
        self._answer_bytes = 0
        self._abandoned = False
        self._drained = asyncio.Condition()

    def put(self, frame: Frame) -> None:
        """Dropped once abandoned."""
        if not self._abandoned:
            self._frames.put_nowait(frame)
            self._count(frame, 1)

    async def take(self) -> Frame:
        """The next frame. It counts as waiting until ``written``."""
        return await self._frames.get()

    async def written(self, frame: Frame) -> None:
        self._count(frame, -1)
        async with self._drained:
            self._drained.notify_all()

    async def abandon(self) -> None:
        """The writer has ended: no caller waits for room any more."""
        self._abandoned = True
        self._frames = asyncio.Queue()
        async with self._drained:
            self._drained.notify_all()

    async def audio_written(self) -> None:
        """Waits until no audio waits here."""
        await self._wait_for(lambda: self._audio_frames == 0)

    async def answers_written(self) -> None:
        """Waits until there is room for answers."""
        await self._wait_for(lambda: self._answer_bytes <= _MAX_ANSWER_BYTES)

    async def _wait_for(self, has_room: Callable[[], bool]) -> None:
        async with self._drained:
            await self._drained.wait_for(lambda: self._abandoned or has_room())

    def _count(self, frame: Frame, sign: int) -> None:
        if isinstance(frame, CloseFrame):
            return
        if frame.audio:
            self._audio_frames += sign
        else:
            self._answer_bytes += sign * len(frame.content)


class Dialect(Protocol):
    """The protocol of one connection: it translates between a client's frames and a session.

    ``events``: whether the session sends the extended set. ``plays_live``: whether the client plays audio as
    it arrives, so that it needs none long before.
    """

    events: bool

    @property
    def plays_live(self) -> bool: ...

    def read(self, text: str | None) -> Iterable[inputs.SessionInput | Frame]:
        """A client's frame (None: a binary one) as inputs of the session, and as immediate answers."""
        ...

    def write(self, effect: effects.Send | effects.SendAudio) -> Iterable[Frame]:
        """The frames of one effect."""
        ...

    def feed(self, effect: effects.FeedPiece) -> effects.FeedPiece | None:
        """The text that the engine is given now."""
        ...

    def look_up_voice(self, name: str | None, /) -> Awaitable[str | None]:
        """See VoiceLookup; None is the session's voice."""
        ...


def accepted_subprotocol(websocket: WebSocket) -> str | None:
    """The service's, if the client offers it: a browser that offers one fails an answer without."""
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None


async def serve_websocket(websocket: WebSocket, service: Service, dialect: Dialect) -> None:
    """Serve one connection until it is closed, or turn it away."""
    address = websocket.client.host if websocket.client else ""
    if not service.allow_connection(address):
        await _turn_away(websocket, service, "too_often", _CLOSE_TOO_OFTEN)
    elif service.full:
        await _turn_away(websocket, service, "full", _CLOSE_NO_CAPACITY)
    else:
        await SpeakConnection(websocket, service, dialect).run()


async def _turn_away(websocket: WebSocket, service: Service, reason: str, code: int) -> None:
    """A close that says why needs an accepted connection; a bare 403 would tell a browser nothing."""
    service.metrics.rejected.labels(reason=reason).inc()
    refusal = RateLimited(
        "No room for another connection now; try again shortly.", retry_after_s=RETRY_AFTER_S
    )
    with suppress(WebSocketDisconnect):
        await websocket.accept(subprotocol=accepted_subprotocol(websocket))
        await websocket.send_text(serialize(ErrorMessage.of(refusal)))
        await websocket.close(code)


class SpeakConnection:
    """``run`` returns once the socket is closed, by either side, with everything released."""

    def __init__(self, websocket: WebSocket, service: Service, dialect: Dialect) -> None:
        self._websocket = websocket
        self._service = service
        self._loop = asyncio.get_running_loop()
        session_id = uuid.uuid4().hex
        ids = (f"u{number}" for number in itertools.count(1))
        self._dialect = dialect
        self._session = Session(session_id, service.limits, ids, now_ms=self._now_ms(), events=dialect.events)
        self._outbox = Outbox()
        # One client plays all utterances of the connection, one after the other.
        self._listener = ListenerClock()
        self.contract_id: str | None = None
        self._voice: str | None = None
        self._utterances: dict[str, tuple[UtteranceStream, asyncio.Task[None]]] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = asyncio.TaskGroup()
        self._perform: dict[type, Callable[[Any], None]] = {
            effects.Send: self._put_frames,
            effects.SendAudio: self._put_frames,
            effects.LoadVoice: self._load_voice,
            effects.StartSpeech: self._start_speech,
            effects.FeedPiece: self._feed_piece,
            effects.FinishText: lambda effect: self._utterances[effect.utterance_id][0].finish(),
            effects.CancelSpeech: self._cancel_speech,
            effects.JoinContract: self._join_contract,
            effects.WakeAt: self._wake_at,
            effects.UtteranceEnded: self._measure,
            effects.Close: lambda effect: self._outbox.put(CloseFrame(effect.code)),
        }

    async def run(self) -> None:
        await self._websocket.accept(subprotocol=accepted_subprotocol(self._websocket))
        self._service.enter(self)
        # Clients choose the ids of utterances. This id is the service's own, on each log line of the session.
        with structlog.contextvars.bound_contextvars(session_id=self._session.id):
            _log.info("session_opened")
            try:
                await self._converse()
            finally:
                self._service.leave(self)
                if self._timer is not None:
                    self._timer.cancel()
                _log.info("session_closed")

    async def _converse(self) -> None:
        async with self._tasks:
            writer = self._tasks.create_task(self._write())
            self.receive(self._service.engine_report)
            if self._service.draining_until_s is not None:
                self.drain(self._service.draining_until_s)
            await self._read()
            self.receive(inputs.Disconnected())
            writer.cancel()
            if self._resolving is not None:
                self._resolving.cancel()

    def receive(self, event: inputs.SessionInput) -> None:
        """Pass an input to the session and perform its effects."""
        for effect in self._session.receive(event, self._now_ms()):
            self._perform[type(effect)](effect)

    def interrupt(self) -> int:
        """Cancel everything; returns how many utterances were pending."""
        pending = self._session.pending_count
        self.receive(inputs.Interrupt())
        return pending

    def drain(self, until_s: float) -> None:
        """Take no new utterances; end when the pending ones have, or at ``until_s`` (loop time)."""
        self.receive(inputs.Drain(round(until_s * 1000)))

    # The socket

    async def _read(self) -> None:
        """Until the client is gone, or the service's own close is sent."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            for item in self._dialect.read(message.get("text")):
                if isinstance(item, ContentFrame | CloseFrame):
                    self._outbox.put(item)
                else:
                    self.receive(item)
            await self._outbox.answers_written()
            # Thousands of small messages may be ready: the writer and other sessions get to run in between.
            await asyncio.sleep(0)

    async def _write(self) -> None:
        """The only writer. After the close, or once the client is gone, nothing more is written."""
        with suppress(WebSocketDisconnect):
            is_open = True
            while is_open:
                match frame := await self._outbox.take():
                    case CloseFrame(code):
                        await self._websocket.close(code)
                        is_open = False
                    case ContentFrame(bytes() as audio):
                        await self._websocket.send_bytes(audio)
                    case ContentFrame(str() as text):
                        await self._websocket.send_text(text)
                await self._outbox.written(frame)
        await self._outbox.abandon()

    # Effects

    def _put_frames(self, effect: effects.Send | effects.SendAudio) -> None:
        for frame in self._dialect.write(effect):
            self._outbox.put(frame)

    def _load_voice(self, effect: effects.LoadVoice) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
        self._resolving = self._tasks.create_task(self._resolve_voice(effect.voice))

    async def _resolve_voice(self, asked: str | None) -> None:
        try:
            voice = await self._service.voices.resolve(asked)
        except TtsError as error:
            self.receive(inputs.EngineFailed(error.message))
        except Exception:
            _log.exception("voice_failed")
            self.receive(inputs.EngineFailed("The voice could not be loaded; the server's log says why."))
        else:
            self._voice = voice.id
            self.receive(inputs.VoiceLoaded(voice.id, voice.warning))

    def _start_speech(self, effect: effects.StartSpeech) -> None:
        audio = effect.format
        words = WordTimer(effect.language, audio.speed) if effect.timings else None
        stream = UtteranceStream(
            self._service.engine,
            UtteranceRequest(effect.utterance_id, effect.language, seed=effect.seed),
            AudioOutput(audio.encoding, audio.sample_rate_hz, audio.speed),
            self._service.metrics,
            find_voice=partial(self._find_voice, effect.voice),
            listener=self._listener,
            max_ahead_s=self._service.limits.max_ahead_ms / 1000 if self._dialect.plays_live else math.inf,
            words=words,
            aligner=self._service.aligner,
        )
        task = self._tasks.create_task(self._speak(effect, stream))
        self._utterances[effect.utterance_id] = (stream, task)
        task.add_done_callback(partial(self._forget_speech, effect.utterance_id))

    def _forget_speech(self, utterance_id: str, task: asyncio.Task[None]) -> None:
        """Unless the id names another utterance by now: after a failure a client may use it again."""
        if (found := self._utterances.get(utterance_id)) and found[1] is task:
            del self._utterances[utterance_id]

    async def _find_voice(self, asked: str | None) -> VoicePrompt | None:
        """The voice named in ``speak``, or that of ``started``, or VoiceNotFound, as when it was deleted."""
        return await self._service.find_voice(await self._dialect.look_up_voice(asked) or self._voice)

    async def _speak(self, effect: effects.StartSpeech, stream: UtteranceStream) -> None:
        """Report an utterance to the session, chunk by chunk; nothing after a cancel."""
        utterance_id = effect.utterance_id
        end: inputs.SpeechEnded | inputs.SpeechFailed
        try:
            async with aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    self.receive(_audio_ready(effect, chunk))
                    # One chunk at most waits for the socket: a cancel is never far behind audio.
                    await self._outbox.audio_written()
            end = inputs.SpeechEnded(utterance_id, stream.finish_reason, stream.warning)
        except TtsError as error:
            if error.logged:
                _log.warning("utterance_failed", code=error.code)
            end = inputs.SpeechFailed(utterance_id, error)
        except Exception:
            _log.exception("utterance_failed")
            end = inputs.SpeechFailed(utterance_id, SynthesisError("The utterance failed; try again."))
        if not stream.cancelled:
            self.receive(end)

    def _feed_piece(self, effect: effects.FeedPiece) -> None:
        if fed := self._dialect.feed(effect):
            self._utterances[effect.utterance_id][0].feed(fed.text, ends_piece=fed.ends_piece)

    def _cancel_speech(self, effect: effects.CancelSpeech) -> None:
        if found := self._utterances.get(effect.utterance_id):
            stream, task = found
            stream.cancel()
            task.cancel()

    def _join_contract(self, effect: effects.JoinContract) -> None:
        self.contract_id = effect.contract_id

    def _wake_at(self, effect: effects.WakeAt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(effect.at_ms / 1000, self.receive, inputs.Tick())

    def _measure(self, effect: effects.UtteranceEnded) -> None:
        self._service.metrics.count_utterance(
            effect.outcome,
            queue_s=None if effect.queue_ms is None else effect.queue_ms / 1000,
            ttfa_s=None if effect.ttfa_ms is None else effect.ttfa_ms / 1000,
            rtf=effect.rtf if effect.outcome == "complete" else None,
        )

    def _now_ms(self) -> int:
        # Rounded up, so that a Tick asked for at t never finds a clock that reads t - 1.
        return -int(-self._loop.time() * 1000 // 1)


def _audio_ready(effect: effects.StartSpeech, chunk: EncodedChunk) -> inputs.AudioReady:
    return inputs.AudioReady(
        utterance_id=effect.utterance_id,
        data=chunk.data,
        samples=len(chunk.data) // effect.format.bytes_per_sample,
        source_ms=chunk.duration_ms,
        piece_index=chunk.piece_index,
        ends_piece=chunk.ends_piece,
        synthesis_s=chunk.synthesis_s,
        words=chunk.words,
    )
