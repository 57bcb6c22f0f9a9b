"""A pipecat TTS service for makima-tts.

In: a pipeline's text, token by token while the language model is still writing, and its interruptions. Out:
audio frames as they arrive, and the text as spoken, over one WebSocket that stays open. Does not know:
sentence boundaries; the service segments the text, and begins before the first sentence is complete.

    tts = MakimaTTSService(url="ws://127.0.0.1:8001/api/v1/speak", settings=TTSSettings(voice="makima"))

A pipecat turn (its audio context) is one utterance of the service, with the same id. After a long pause in
its text, the rest is another one. An interruption cancels the utterance and keeps the connection.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import ErrorFrame, Frame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TextAggregationMode, WebsocketTTSService
from pipecat.utils.errors import ErrorCategory
from websockets.exceptions import WebSocketException
from websockets.protocol import State
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("makima.tts.v1")
# The service closes a session after two minutes without a message.
KEEPALIVE_S = 30.0
# The service ends every utterance itself, with an error after its own timeouts. pipecat's timeout is longer
# than those, since it would take a long queue or a slow model for the end of the turn.
STOP_TIMEOUT_S = 90.0
CHUNK_CHARS = 500  # a service accepts 1000 in one message by default
SILENT_TURN_S = 0.2  # the audio of a turn without words, such as emoji alone

# Where a retry cannot help, pipecat does not use the service until its settings change. INVALID_TEXT is not
# such an error: the next text may be valid.
_CATEGORIES = {
    "VOICE_NOT_FOUND": ErrorCategory.INVALID_REQUEST,
    "UNAUTHORIZED": ErrorCategory.AUTHENTICATION,
    "RATE_LIMITED": ErrorCategory.RATE_LIMIT,
    "INVALID_TEXT": ErrorCategory.APPLICATION,
    "INVALID_MESSAGE": ErrorCategory.UNKNOWN,
}


@dataclass
class _Turn:
    """``sent``: the text sent under this id. ``audio_ms``: of the earlier utterances of the turn."""

    utterance_id: str
    sent: str = ""
    ended: bool = False
    audio_ms: int = 0


class MakimaTTSService(WebsocketTTSService):
    """Speaks through a makima-tts service, with its default voice and language or those in ``settings``.

    ``sample_rate``, or else the pipeline's, is 8000, 16000, 22050, 24000, 44100 or 48000 Hz. Other arguments
    are those of pipecat's TTSService.
    """

    def __init__(
        self,
        *,
        url: str = "ws://127.0.0.1:8001/api/v1/speak",
        sample_rate: int | None = None,
        settings: TTSSettings | None = None,
        **kwargs: Any,
    ) -> None:
        applied = TTSSettings(model=None, voice=None, language=None)
        if settings is not None:
            applied.apply_update(settings)
        # Failing turns are reported, and the next may be fine; pipecat gives up after three without audio.
        kwargs.setdefault("max_consecutive_zero_audio_contexts", 0)
        super().__init__(
            sample_rate=sample_rate,
            text_aggregation_mode=TextAggregationMode.TOKEN,
            push_start_frame=True,
            push_text_frames=False,
            stop_frame_timeout_s=STOP_TIMEOUT_S,
            settings=applied,
            **kwargs,
        )
        self._url = url
        self._speaking: str | None = None
        self._lost_turn: str | None = None
        # By context id; those that have not ended.
        self._turns: dict[str, _Turn] = {}
        self._receiver: asyncio.Task[None] | None = None
        self._resumed = 0

    def can_generate_metrics(self) -> bool:
        """Yes: time to the first audio, and characters."""
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as in pipecat
        """Connects before the first turn."""
        await super().setup(setup)
        await self._connect()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Sends a piece of text; the audio arrives through the receiver task."""
        if context_id == self._lost_turn:
            return  # its beginning was lost, so the rest is not spoken
        try:
            await self._speak(context_id, text)
        except (OSError, WebSocketException) as failure:
            self._lost_turn = context_id
            yield ErrorFrame(f"No connection to speak through: {failure}", exception=failure)
            return
        await self.start_tts_usage_metrics(text)
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        """The turn's text is complete: the service may end the utterance."""
        if context_id is None:
            return
        turn = self._turns.setdefault(context_id, _Turn(context_id))
        turn.ended = True
        try:
            await self._send_text(turn, "")
        except (OSError, WebSocketException):
            self._lost_turn = context_id
        if context_id == self._lost_turn:
            await self._end(context_id)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """Cancels the utterance; the service drops text of it that comes later."""
        turn = self._turns.pop(context_id, _Turn(context_id))
        await self._send({"type": "cancel", "utteranceId": turn.utterance_id})
        await super().on_audio_context_interrupted(context_id)

    async def on_audio_context_completed(self, context_id: str) -> None:
        """Also after a lost connection."""
        self._turns.pop(context_id, None)
        await super().on_audio_context_completed(context_id)

    async def _speak(self, context_id: str, text: str) -> None:
        closed = self._websocket is None or self._websocket.state is not State.OPEN
        if closed and not self._reconnect_in_progress:
            await self._connect()
        turn = self._turns.setdefault(context_id, _Turn(context_id))
        for start in range(0, len(text), CHUNK_CHARS):
            turn.sent += (chunk := text[start : start + CHUNK_CHARS])
            await self._send_text(turn, chunk)

    async def _send_text(self, turn: _Turn, text: str) -> None:
        options = {"voice": self._settings.voice, "language": self._settings.language}
        part = {"utteranceId": turn.utterance_id, "text": text, "final": turn.ended}
        await self._send({"type": "speak", **part, **options})

    async def _send(self, message: dict[str, Any]) -> None:
        if self._websocket is None:
            raise ConnectionError("not connected")
        await self._websocket.send(json.dumps(message))

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call]
        await self._connect_websocket()
        if self._websocket is not None:
            if self._receiver is None or self._receiver.done():
                self._receiver = self.create_task(self._receive_task_handler(self._report_error))
            self._create_keepalive_task(KEEPALIVE_S)

    async def _disconnect(self) -> None:
        await super()._disconnect()  # type: ignore[no-untyped-call]
        await self._cancel_keepalive_task()  # type: ignore[no-untyped-call]
        if self._receiver is not None:
            await self.cancel_task(self._receiver)
            self._receiver = None
        await self._disconnect_websocket()

    async def _connect_websocket(self) -> None:
        if self._websocket is not None and self._websocket.state is State.OPEN:
            return
        try:
            self._websocket = await self._websocket_connect(self._url, subprotocols=[SUBPROTOCOL])
            await self._send({"type": "start", "sampleRate": self.sample_rate, "encoding": "pcm16"})
            await self._call_event_handler("on_connected")
        except (OSError, WebSocketException) as failure:
            self._websocket = None
            await self._report_error(
                ErrorFrame(f"No connection to {self._url}: {failure}", exception=failure)
            )

    async def _disconnect_websocket(self) -> None:
        socket, self._websocket = self._websocket, None
        if socket is not None:
            await socket.close()
            await self._call_event_handler("on_disconnected")

    async def _send_keepalive(self) -> None:
        await self._send({"type": "ping"})

    async def _receive_messages(self) -> None:
        if self._websocket is None:
            raise ConnectionError("not connected")
        async for message in self._websocket:
            if isinstance(message, bytes):
                await self._on_audio(message)
            else:
                await self._on_message(json.loads(message))

    async def _on_audio(self, pcm: bytes) -> None:
        """Belongs to the utterance of the last ``speaking``; dropped if that was interrupted."""
        if self._speaking is not None and self.audio_context_available(self._speaking):
            frame = TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=self._speaking)
            await self.append_to_audio_context(self._speaking, frame)

    async def _on_message(self, message: dict[str, Any]) -> None:
        utterance_id = message.get("utteranceId")
        turns = self._turns.items()
        context_id = next((one for one, turn in turns if turn.utterance_id == utterance_id), None)
        match message:
            case {"type": "speaking"}:
                self._speaking = context_id
            case {"type": "sentence", "text": text, "startMs": start_ms} if context_id is not None:
                start_s = (self._turns[context_id].audio_ms + start_ms) / 1000
                await self.add_word_timestamps([(text, start_s)], context_id)
            case {"type": "complete"} | {"type": "error", "reason": "nothing_to_say"} if (
                context_id is not None
            ):
                await self._resume_or_end(context_id, message)
            case {"type": "error"} if context_id is not None or utterance_id is None:
                await self._fail(message, context_id)

    async def _resume_or_end(self, context_id: str, end: dict[str, Any]) -> None:
        """The service closes a text whose writer pauses: what it has not received is another utterance."""
        turn, received_chars = self._turns[context_id], end.get("textLength", 0)
        turn.audio_ms += end.get("audioLengthMs", 0)
        turn.sent = turn.sent[received_chars:]
        if not turn.ended or (turn.sent and received_chars):
            self._resumed += 1
            turn.utterance_id = f"resumed-{self._resumed}"
            if turn.sent:
                await self._send_text(turn, turn.sent)
            return
        if not turn.audio_ms:
            self._speaking = context_id
            await self._on_audio(bytes(2 * round(SILENT_TURN_S * self.sample_rate)))
        await self._end(context_id)

    async def _fail(self, error: dict[str, Any], context_id: str | None) -> None:
        if error["code"] != "CANCELLED":
            category = _CATEGORIES.get(error["code"], ErrorCategory.SERVER)
            await self.push_error_frame(ErrorFrame(f"{error['code']}: {error['message']}", category=category))
        await self._end(context_id)

    async def _end(self, context_id: str | None) -> None:
        self._turns.pop(context_id or "", None)
        if context_id is not None and self.audio_context_available(context_id):
            await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
            await self.remove_audio_context(context_id)
