"""One WebSocket: a reader, a writer and a pump for whoever speaks; performs the session's effects.

In: frames of the socket; reports of the engine. Out: frames, in the order of the session's effects. Does
not know: the conversation (that is the session), how audio is made (that is the pump).

A task is always in ``receive()``: the speaking never happens in the receive loop.
"""

import asyncio
import itertools
import math
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from makima_tts.api.native.dialects import Dialect
from makima_tts.api.native.outbox import AnswerFrame, AudioFrame, CloseFrame, Frame, Outbox
from makima_tts.api.pump import Pump
from makima_tts.api.service import Service
from makima_tts.errors import TtsError
from makima_tts.protocol import SUBPROTOCOL
from makima_tts.session import (
    CancelSpeech,
    Close,
    Disconnected,
    Drain,
    Effect,
    EngineFailed,
    FeedPiece,
    FinishText,
    Interrupt,
    JoinContract,
    LoadVoice,
    Send,
    SendAudio,
    Session,
    SessionInput,
    StartSpeech,
    Tick,
    UtteranceEnded,
    VoiceLoaded,
    WakeAt,
)
from makima_tts.speech import ListenerClock, VoicePrompt

_log = structlog.get_logger(__name__)


def accepted_subprotocol(websocket: WebSocket) -> str | None:
    """Ours, if the client offered it: a browser that offered one fails an answer without."""
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None


class Connection:
    """``run`` returns when the socket is closed, whoever closed it, with everything released."""

    def __init__(self, websocket: WebSocket, service: Service, dialect: Dialect) -> None:
        self._websocket = websocket
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._subprotocol = accepted_subprotocol(websocket)
        session_id = uuid.uuid4().hex
        ids = (f"u{number}" for number in itertools.count(1))
        self._dialect = dialect
        self._session = Session(session_id, service.limits, ids, now_ms=self._now_ms(), events=dialect.events)
        self._outbox = Outbox()
        self._listener = ListenerClock()
        self._voice: str | None = None
        self._pumps: dict[str, tuple[Pump, asyncio.Task[None]]] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = asyncio.TaskGroup()
        self._perform: dict[type, Callable[[Any], None]] = {
            Send: self._put_frames,
            SendAudio: self._put_frames,
            LoadVoice: self._load_voice,
            StartSpeech: self._start_speech,
            FeedPiece: self._feed_piece,
            FinishText: lambda effect: self._pumps[effect.utterance_id][0].finish(),
            CancelSpeech: self._cancel_speech,
            JoinContract: lambda effect: self._service.contracts.join(self, effect.contract_id),
            WakeAt: self._wake_at,
            UtteranceEnded: self._measure,
            Close: lambda effect: self._outbox.put(CloseFrame(effect.code)),
        }

    async def run(self) -> None:
        await self._websocket.accept(subprotocol=self._subprotocol)
        self._service.enter(self)
        # Ids that clients choose are theirs; this one is ours, and stands on every line of the session.
        with structlog.contextvars.bound_contextvars(session_id=self._session.id):
            _log.info("session_opened")
            try:
                await self._converse()
            finally:
                self._release()
                _log.info("session_closed")

    async def _converse(self) -> None:
        async with self._tasks:
            writer = self._tasks.create_task(self._write())
            self._service.life.watch(self.hear)
            if self._service.draining_until_s is not None:
                self.drain(self._service.draining_until_s)
            await self._read()
            self.hear(Disconnected())
            writer.cancel()
            if self._resolving is not None:
                self._resolving.cancel()

    def hear(self, event: SessionInput) -> None:
        """Pass an input to the session and perform what it answers."""
        self._do(self._session.receive(event, self._now_ms()))

    def interrupt(self) -> int:
        """Silence everything; returns how many utterances were pending."""
        pending = self._session.pending_count
        self.hear(Interrupt())
        return pending

    def drain(self, until_s: float) -> None:
        self.hear(Drain(round(until_s * 1000)))

    # The socket

    async def _read(self) -> None:
        """Until the client is gone, or the close that we sent is."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            for meant in self._dialect.read(message.get("text")):
                if isinstance(meant, AudioFrame | AnswerFrame | CloseFrame):
                    self._outbox.put(meant)
                else:
                    self.hear(meant)
            await self._outbox.answers_written()
            # Thousands of small messages may lie ready: let the writer and the other sessions in between.
            await asyncio.sleep(0)

    async def _write(self) -> None:
        """The only writer. After the close, or once the client is gone, nothing more is written."""
        frame: Frame | None = None
        with suppress(WebSocketDisconnect):
            while not isinstance(frame, CloseFrame):
                frame = await self._outbox.take()
                await self._send(frame)
                await self._outbox.written(frame)
        await self._outbox.abandon()

    async def _send(self, frame: Frame) -> None:
        if isinstance(frame, CloseFrame):
            await self._websocket.close(frame.code)
        elif isinstance(frame.content, bytes):
            await self._websocket.send_bytes(frame.content)
        else:
            await self._websocket.send_text(frame.content)

    # Effects

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform[type(effect)](effect)

    def _put_frames(self, effect: Send | SendAudio) -> None:
        for frame in self._dialect.write(effect):
            self._outbox.put(frame)

    def _load_voice(self, effect: LoadVoice) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
        self._resolving = self._tasks.create_task(self._resolve_voice(effect.voice))

    async def _resolve_voice(self, wanted: str | None) -> None:
        try:
            voice = await self._service.voices.resolve(wanted)
        except TtsError as error:
            self.hear(EngineFailed(error.message))
        except Exception:
            _log.exception("voice_failed")
            self.hear(EngineFailed("The voice could not be loaded; the server's log says why."))
        else:
            self._voice = voice.id
            self.hear(VoiceLoaded(voice.id, voice.warning))

    def _start_speech(self, effect: StartSpeech) -> None:
        pump = Pump(
            effect,
            engine=self._service.engine,
            find_voice=partial(self._find_voice, effect.voice),
            hear=self.hear,
            audio_written=self._outbox.audio_written,
            listener=self._listener,
            max_ahead_s=self._service.limits.max_ahead_ms / 1000 if self._dialect.listens else math.inf,
            metrics=self._service.metrics,
        )
        task = self._tasks.create_task(pump.run())
        self._pumps[effect.utterance_id] = (pump, task)
        task.add_done_callback(lambda _: self._pumps.pop(effect.utterance_id))

    def _feed_piece(self, effect: FeedPiece) -> None:
        if fed := self._dialect.feed(effect):
            self._pumps[effect.utterance_id][0].feed(fed.text, fed.ends_piece)

    async def _find_voice(self, wanted: str | None) -> VoicePrompt | None:
        """One named in ``speak`` is that or VOICE_NOT_FOUND; else the session's, or the next in line."""
        voices = self._service.voices
        wanted = await self._dialect.library_voice(wanted)
        voice = await (voices.resolve(self._voice) if wanted is None else voices.get(wanted))
        return voice.prompt

    def _cancel_speech(self, effect: CancelSpeech) -> None:
        found = self._pumps.get(effect.utterance_id)
        if found is not None:
            pump, task = found
            pump.cancel()
            task.cancel()

    def _wake_at(self, effect: WakeAt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(effect.at_ms / 1000, self.hear, Tick())

    def _measure(self, effect: UtteranceEnded) -> None:
        self._service.metrics.count_utterance(
            effect.outcome,
            queue_s=None if effect.queue_ms is None else effect.queue_ms / 1000,
            ttfa_s=None if effect.ttfa_ms is None else effect.ttfa_ms / 1000,
            rtf=effect.rtf if effect.outcome == "complete" else None,
        )

    def _release(self) -> None:
        self._service.life.unwatch(self.hear)
        self._service.leave(self)
        if self._timer is not None:
            self._timer.cancel()

    def _now_ms(self) -> int:
        # Rounded up, so that a Tick asked for at t never finds a clock that reads t - 1.
        return -int(-self._loop.time() * 1000 // 1)
