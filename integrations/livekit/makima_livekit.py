"""A TTS of livekit-agents for makima-tts.

In: an agent's text, token by token while the language model is still writing. Out: audio frames as they
arrive, over a WebSocket that is kept for the next turn. Does not know: sentence boundaries; the service
segments the text, and begins before the first sentence is complete.

    session = AgentSession(tts=makima_livekit.TTS(voice="makima"), ...)

A livekit stream is one utterance of the service; closing it cancels the utterance.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp
from livekit import agents
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, tts, utils

Socket = aiohttp.ClientWebSocketResponse
HEARTBEAT_S = 15.0  # a connection without an answer to a ping for this long is closed
CHUNK_CHARS = 500  # a service accepts 1000 in one message by default
SILENT_TURN_S = 0.2  # the audio of a turn without words, such as emoji alone
# By the HTTP status livekit-agents decides whether to retry; codes not listed are 503.
STATUSES = {
    "INVALID_MESSAGE": 400,
    "INVALID_TEXT": 400,
    "UNAUTHORIZED": 401,
    "VOICE_NOT_FOUND": 404,
    "TIMEOUT": 408,
    "RATE_LIMITED": 429,
    "CANCELLED": 499,
}


class TTS(tts.TTS[str]):
    """Speaks through a makima-tts service, with its default voice and language unless others are given.

    ``sample_rate`` is 8000, 16000, 22050, 24000, 44100 or 48000 Hz. Outside of a job ``http_session`` is
    needed, or ``livekit.agents.utils.http_context.open()`` around it.
    """

    def __init__(
        self,
        *,
        url: str = "ws://127.0.0.1:8001/api/v1/speak",
        voice: str | None = None,
        language: str | None = None,
        sample_rate: int = 24_000,
        http_session: aiohttp.ClientSession | None = None,
    ) -> None:
        streaming = tts.TTSCapabilities(streaming=True)
        super().__init__(capabilities=streaming, sample_rate=sample_rate, num_channels=1)
        self._url = url
        self._http_session = http_session
        self._idle: list[tuple[Socket, asyncio.Task[None]]] = []
        self._prewarming: list[asyncio.Task[None]] = []
        self.options = {"voice": voice, "language": language}

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """A whole text; its audio is streamed, too."""
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> "SynthesizeStream":
        """A text that is still being written."""
        return SynthesizeStream(self, conn_options)

    def prewarm(self) -> None:
        """Connects before the first turn; the first turn tries again if that fails."""
        self._prewarming.append(asyncio.create_task(self._connect_early()))

    async def _connect_early(self) -> None:
        with suppress(agents.APIError, aiohttp.ClientError, OSError):
            self.release(await self._connect(DEFAULT_API_CONNECT_OPTIONS.timeout))

    async def aclose(self) -> None:
        """Closes all connections."""
        await utils.aio.cancel_and_wait(*self._prewarming, *(reading for _, reading in self._idle))
        await asyncio.gather(*(socket.close() for socket, _ in self._idle))

    async def acquire(self, timeout_s: float) -> tuple[Socket, bool]:
        """A session, and whether it was used before."""
        while self._idle:
            socket, reading = self._idle.pop()
            await utils.aio.cancel_and_wait(reading)
            if not socket.closed:
                return socket, True
        return await self._connect(timeout_s), False

    def release(self, socket: Socket) -> None:
        """Keep it for the next turn. It is read meanwhile: pings are answered, a close is noticed."""
        if not socket.closed:
            self._idle.append((socket, asyncio.create_task(_discard_messages(socket))))

    async def _connect(self, timeout_s: float) -> Socket:
        """A session, once the service is ready."""
        http = self._http_session or utils.http_context.http_session()
        async with asyncio.timeout(timeout_s):
            socket = await http.ws_connect(self._url, protocols=("makima.tts.v1",), heartbeat=HEARTBEAT_S)
            try:
                await socket.send_json({"type": "start", "sampleRate": self.sample_rate, "encoding": "pcm16"})
                await anext(message async for message in _messages(socket) if message["type"] == "started")
            except BaseException:
                await socket.close()
                raise
            return socket


class SynthesizeStream(tts.SynthesizeStream):
    """One utterance, spoken while its text is written; after a long pause in the text, another one."""

    def __init__(self, makima: TTS, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=makima, conn_options=conn_options)
        self._makima = makima
        self._utterance_id = ""
        # Sent under this id; and whether the text has ended.
        self._sent = ""
        self._ended = False

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        self._utterance_id, self._sent, self._ended = utils.shortuuid(), "", False
        output_emitter.initialize(
            request_id=self._utterance_id,
            sample_rate=self._makima.sample_rate,
            num_channels=1,
            mime_type="audio/pcm",
            stream=True,
        )
        output_emitter.start_segment(segment_id=self._utterance_id)
        try:
            await self._speak(output_emitter)
        except TimeoutError:
            raise agents.APITimeoutError from None
        except (aiohttp.ClientError, ConnectionError) as failure:
            raise agents.APIConnectionError from failure
        output_emitter.end_segment()

    async def _speak(self, output_emitter: tts.AudioEmitter) -> None:
        chunks = self._chunks()
        if (first := await anext(chunks, None)) is None:
            return
        socket, self._connection_reused = await self._makima.acquire(self._conn_options.timeout)
        writing = asyncio.create_task(self._write(socket, first, chunks))
        try:
            async for pcm in self._audio(socket):
                output_emitter.push(pcm)
        finally:
            await utils.aio.cancel_and_wait(writing)
            with suppress(aiohttp.ClientError, ConnectionError):  # no effect on a finished utterance
                await socket.send_json({"type": "cancel", "utteranceId": self._utterance_id})
            self._makima.release(socket)

    async def _chunks(self) -> AsyncIterator[str]:
        """The text of one segment."""
        async for text in self._input_ch:
            if isinstance(text, self._FlushSentinel):
                return
            for start in range(0, len(text), CHUNK_CHARS):
                yield text[start : start + CHUNK_CHARS]

    async def _write(self, socket: Socket, first: str, rest: AsyncIterator[str]) -> None:
        """Sends the text as it comes. A lost connection is reported by the task that reads."""
        with suppress(aiohttp.ClientError, ConnectionError):
            self._mark_started()
            self._sent += first
            await self._send(socket, first)
            async for chunk in rest:
                self._sent += chunk
                await self._send(socket, chunk)
            self._ended = True
            await self._send(socket, "")

    async def _send(self, socket: Socket, text: str) -> None:
        speak = {"type": "speak", "utteranceId": self._utterance_id, **self._makima.options}
        await socket.send_json({**speak, "text": text, "final": self._ended})

    async def _resume(self, socket: Socket, received_chars: int) -> bool:
        """The service closes a text whose writer pauses: what it has not received is another utterance."""
        self._sent = self._sent[received_chars:]
        if self._ended and not (self._sent and received_chars):
            return False
        self._utterance_id = utils.shortuuid()
        if self._sent:
            await self._send(socket, self._sent)
        return True

    async def _audio(self, socket: Socket) -> AsyncIterator[bytes]:
        """Audio belongs to the utterance of the last ``speaking``: an earlier one may still be ending."""
        speaking, heard = None, False
        async for message in _messages(socket, lambda: self._utterance_id):
            match message["type"]:
                case "audio" if speaking == self._utterance_id:
                    heard = True
                    yield message["pcm"]
                case "speaking":
                    speaking = message["utteranceId"]
                case "complete" | "error" if message.get("utteranceId") == self._utterance_id:
                    if not await self._resume(socket, message.get("textLength", 0)):
                        break
        if not heard:
            yield bytes(2 * round(SILENT_TURN_S * self._makima.sample_rate))


async def _discard_messages(socket: Socket) -> None:
    async for _ in socket:
        pass


async def _messages(
    socket: Socket, utterance_id: Callable[[], str | None] = lambda: None
) -> AsyncIterator[dict[str, Any]]:
    """The service's messages. Raises errors, but not of other utterances or text without words."""
    async for frame in socket:
        audio = frame.type is aiohttp.WSMsgType.BINARY
        message = {"type": "audio", "pcm": frame.data} if audio else json.loads(frame.data)
        failed = message["type"] == "error" and message.get("reason") != "nothing_to_say"
        if failed and message.get("utteranceId") in (None, utterance_id()):
            status = STATUSES.get(message["code"], 503)
            raise agents.APIStatusError(
                f"{message['code']}: {message['message']}", status_code=status, body=message
            )
        yield message
    raise agents.APIConnectionError(f"The service closed the connection ({socket.close_code}).")
