"""Makima-tts as a pipecat TTS service.

In: a pipeline's text, token by token while the language model is still writing, and its interruptions. Out:
audio frames as they are spoken, and the text of what was spoken, from one WebSocket that stays open. Does not
know: where sentences end; the service cuts the text itself, and begins before the first one is written.

    tts = MakimaTTSService(url="ws://127.0.0.1:8001/api/v1/speak", settings=TTSSettings(voice="makima"))

A turn of pipecat's (its audio context) is one utterance of the service's: the same id names both. An
interruption cancels the utterance, and the connection stays.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
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
# The service closes a session that says nothing for two minutes.
KEEPALIVE_S = 30.0
# The service ends every utterance itself, with an error if it must wait too long; pipecat's own watch, which
# would take a queue under load or a model at work for the end of the turn, comes after that.
SILENCE_S = 90.0
PART_CHARS = 500  # a service takes 1000 in one message, unless it was told otherwise

# Those that a retry cannot help leave the service unused until its settings change. A text that cannot be
# spoken is none of them: the next one can.
_CATEGORIES = {
    "VOICE_NOT_FOUND": ErrorCategory.INVALID_REQUEST,
    "UNAUTHORIZED": ErrorCategory.AUTHENTICATION,
    "RATE_LIMITED": ErrorCategory.RATE_LIMIT,
    "INVALID_TEXT": ErrorCategory.APPLICATION,
    "INVALID_MESSAGE": ErrorCategory.UNKNOWN,
}


class MakimaTTSService(WebsocketTTSService):
    """Speaks through a makima-tts service, in its own voice and language unless ``settings`` name others.

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
        chosen = TTSSettings(model=None, voice=None, language=None)
        if settings is not None:
            chosen.apply_update(settings)
        super().__init__(
            sample_rate=sample_rate,
            text_aggregation_mode=TextAggregationMode.TOKEN,
            push_start_frame=True,
            push_text_frames=False,
            stop_frame_timeout_s=SILENCE_S,
            settings=chosen,
            **kwargs,
        )
        self._url = url
        self._speaking: str | None = None
        self._lost_turn: str | None = None
        self._receiver: asyncio.Task[None] | None = None

    def can_generate_metrics(self) -> bool:
        """Yes: time to the first audio, and characters."""
        return True

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as in pipecat
        """Connects before the first turn."""
        await super().setup(setup)
        await self._connect()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Sends what has been written; the audio comes through the connection's receiver."""
        if context_id == self._lost_turn:
            return  # without its beginning the rest would be nonsense
        try:
            await self._speak(context_id, text)
        except (OSError, WebSocketException) as failure:
            self._lost_turn = context_id
            yield ErrorFrame(f"No connection to speak through: {failure}", exception=failure)
            return
        await self.start_tts_usage_metrics(text)
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        """The turn's text is whole: the service may end the utterance."""
        if context_id is None:
            return
        try:
            await self._send({"type": "speak", "utteranceId": context_id, "text": "", "final": True})
        except (OSError, WebSocketException):
            self._lost_turn = context_id
        if context_id == self._lost_turn:
            await self._end(context_id)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """The listener spoke, say: the service falls silent, and drops text that comes late."""
        await self._send({"type": "cancel", "utteranceId": context_id})
        await super().on_audio_context_interrupted(context_id)

    async def _speak(self, context_id: str, text: str) -> None:
        closed = self._websocket is None or self._websocket.state is not State.OPEN
        if closed and not self._reconnect_in_progress:
            await self._connect()
        manner = {"voice": self._settings.voice, "language": self._settings.language}
        for start in range(0, len(text), PART_CHARS):
            part = {"text": text[start : start + PART_CHARS], "final": False}
            await self._send({"type": "speak", "utteranceId": context_id, **part, **manner})

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
            await (self._hear(message) if isinstance(message, bytes) else self._obey(json.loads(message)))

    async def _hear(self, pcm: bytes) -> None:
        """Audio is of the utterance that was announced last; of an interrupted one it is dropped."""
        if self._speaking is not None and self.audio_context_available(self._speaking):
            frame = TTSAudioRawFrame(pcm, self.sample_rate, 1, context_id=self._speaking)
            await self.append_to_audio_context(self._speaking, frame)

    async def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "speaking", "utteranceId": str(utterance_id)}:
                self._speaking = utterance_id
            case {"type": "sentence", "utteranceId": str(utterance_id), "text": text, "startMs": start_ms}:
                await self.add_word_timestamps([(text, start_ms / 1000)], utterance_id)
            case {"type": "complete", "utteranceId": str(utterance_id)}:
                await self._end(utterance_id)
            case {"type": "error"}:
                await self._fail(message)

    async def _fail(self, error: dict[str, Any]) -> None:
        if error["code"] != "CANCELLED":
            category = _CATEGORIES.get(error["code"], ErrorCategory.SERVER)
            await self.push_error_frame(ErrorFrame(f"{error['code']}: {error['message']}", category=category))
        await self._end(error.get("utteranceId"))

    async def _end(self, context_id: str | None) -> None:
        if context_id is not None and self.audio_context_available(context_id):
            await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
            await self.remove_audio_context(context_id)
