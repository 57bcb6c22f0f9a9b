"""One utterance as the body of an HTTP answer, streamed as it is made.

In: an utterance, and the form of the body. Out: the answer. Does not know: routes, how anything is spoken.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Protocol

import structlog
from fastapi import Response
from starlette.types import Receive, Scope, Send

from makima_tts.api.failures import error_response
from makima_tts.api.service import Service
from makima_tts.api.spoken_utterance import SpokenUtterance, Wanted
from makima_tts.audio import MEDIA_TYPES
from makima_tts.errors import Fault, TtsError

_log = structlog.get_logger(__name__)
# A proxy that gathers a body before it passes it on makes listeners wait for all of it.
_UNBUFFERED = {"X-Accel-Buffering": "no"}


class BodyForm(Protocol):
    """What the bytes of the audio become on their way into the body.

    ``sign_of_life``: what keeps the connection open while there is nothing to hear; None if the form has no
    such thing.
    """

    @property
    def media_type(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def sign_of_life(self) -> bytes | None: ...

    def part(self, audio: bytes) -> bytes: ...

    def ending(self, utterance: SpokenUtterance) -> bytes: ...

    def failure(self, error: TtsError) -> bytes | None:
        """How the body ends when it fails halfway; None: it is left unfinished."""
        ...


class AudioBody:
    """The audio, and nothing but the audio."""

    headers: Mapping[str, str] = {}
    sign_of_life = None

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def part(self, audio: bytes) -> bytes:
        return audio

    def ending(self, utterance: SpokenUtterance) -> bytes:
        return b""

    def failure(self, error: TtsError) -> None:
        """No client takes an unfinished body for the whole."""
        return


class SpokenResponse(Response):
    """Until the first byte an error has its status; after it, the form of the body says how it ends.

    The engine is freed when the body ends, fails, or the client goes away, even before the first byte.
    """

    def __init__(
        self,
        service: Service,
        wanted: Wanted,
        form: BodyForm | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._form = form or AudioBody(MEDIA_TYPES[wanted.format])
        self._utterance = SpokenUtterance(service, wanted)
        self._sign_of_life_s = service.sign_of_life_s
        named = {**_UNBUFFERED, "X-Request-Id": self._utterance.id}
        super().__init__(
            headers={**named, **self._form.headers, **(headers or {})}, media_type=self._form.media_type
        )
        del self.headers["content-length"]  # nobody knows it yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(send, self.raw_headers)
        # On every line that is logged meanwhile: whoever has the answer can ask about it.
        with structlog.contextvars.bound_contextvars(request_id=self._utterance.id):
            await self._attend(scope, receive, send, body)

    async def _attend(self, scope: Scope, receive: Receive, send: Send, body: "_Body") -> None:
        # One group, none within another: a cancel that passed through one would be kept, and with it every
        # frame on its way, until somebody collects garbage (Python before 3.13).
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(body.keep_alive(self._form.sign_of_life, self._sign_of_life_s))
            answering = tasks.create_task(self._answer(scope, receive, send, body, waiting))
            leaving = tasks.create_task(_disconnect(receive))
            answering.add_done_callback(lambda _: (waiting.cancel(), leaving.cancel()))
            leaving.add_done_callback(lambda _: answering.cancel())

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, body: "_Body", waiting: asyncio.Task[None]
    ) -> None:
        error = await self._speak(body)
        waiting.cancel()
        if error is None:
            await body.end(self._form.ending(self._utterance))
        elif not body.begun:
            await self._refusal(error, scope)(scope, receive, send)
        else:  # too late for a status
            _log.warning("stream_broke_off", code=error.code)
            if ending := self._form.failure(error):
                await body.end(ending)

    def _refusal(self, error: TtsError, scope: Scope) -> Response:
        if error.fault is Fault.SERVER:
            _log.warning("utterance_failed", code=error.code)
        response = error_response(error, scope)
        response.headers["X-Request-Id"] = self._utterance.id
        return response

    async def _speak(self, body: "_Body") -> TtsError | None:
        try:
            async with aclosing(self._utterance.audio()) as audio:
                async for data in audio:
                    await body.write(self._form.part(data))
        except TtsError as error:
            return error
        return None


class _Body:
    """Begins with its first bytes. Who writes waits for a turn, and writes whole."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self._turn = asyncio.Lock()
        self._wrote_s = time.monotonic()
        self.begun = False

    async def write(self, data: bytes, *, more: bool = True) -> None:
        async with self._turn:
            if not self.begun:
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
                self.begun = True
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._wrote_s = time.monotonic()

    async def end(self, data: bytes) -> None:
        await self.write(data, more=False)

    async def keep_alive(self, sign: bytes | None, period_s: float) -> None:
        """Never silent for longer than ``period_s``; returns at once when there is no sign to give."""
        while sign is not None:
            silent_s = time.monotonic() - self._wrote_s
            if silent_s < period_s:
                await asyncio.sleep(period_s - silent_s)
            else:
                await self.write(sign)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
