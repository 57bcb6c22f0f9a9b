"""The client for code without an event loop.

In: the arguments of :class:`SpeechClient`. Out: its results, by plain calls and a plain iterator. Does not
know: the wire. The connection has an event loop in a thread of its own, so that it is served while the caller
is busy.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from threading import Thread
from typing import Any, Self, TypeVar, Unpack

from makima_tts.client.connection import OnLoading, Reconnects
from makima_tts.client.conversation import SpeakOptions, SpeechClient
from makima_tts.client.speech import Heard, Speech, SpeechChunk
from makima_tts.client.writing import Text
from makima_tts.protocol import Start

_T = TypeVar("_T")


def _call(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs it on the loop of another thread and waits; an interrupt (Ctrl-C) of the wait cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class BlockingSpeech:
    """One utterance, with the methods of :class:`Speech`; iterate once, or ``save``, ``play`` or ``read`` it.

    ``speech`` has the measurements and the terminal message.
    """

    def __init__(self, speech: Speech, loop: asyncio.AbstractEventLoop) -> None:
        self.speech = speech
        self._loop = loop

    def read(self) -> bytes:
        return _call(self._loop, self.speech.read())

    def save(self, path: Path | str) -> Path:
        return _call(self._loop, self.speech.save(path))

    def play(self) -> None:
        """As :meth:`Speech.play`; another thread may interrupt it."""
        _call(self._loop, self.speech.play())

    def cancel(self, played_ms: float | None = None) -> None:
        _call(self._loop, self.speech.cancel(played_ms))

    def interrupt(self, played_ms: float | None = None) -> Heard:
        return _call(self._loop, self.speech.interrupt(played_ms))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SpeechChunk:
        chunk = _call(self._loop, _next_of(self.speech))
        if chunk is None:
            raise StopIteration
        return chunk


class BlockingSpeechClient:
    """As :meth:`SpeechClient.connect`, as a plain context manager; its methods are the client's."""

    def __init__(
        self,
        url: str,
        start: Start | None = None,
        *,
        on_loading: OnLoading = lambda _: None,
        ready_timeout_s: float = 660.0,
        reconnects: Reconnects = Reconnects(),  # noqa: B008 - frozen
    ) -> None:
        self._connecting = SpeechClient.connect(
            url, start, on_loading=on_loading, ready_timeout_s=ready_timeout_s, reconnects=reconnects
        )

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="speech-client", daemon=True)
        self._thread.start()
        try:
            self.client = _call(self._loop, self._connecting.__aenter__())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            _call(self._loop, self._connecting.__aexit__(None, None, None))
        finally:
            self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def speak(self, text: Text, **options: Unpack[SpeakOptions]) -> BlockingSpeech:
        return BlockingSpeech(_call(self._loop, _begin(self.client, text, options)), self._loop)

    def flush(self, utterance_id: str) -> None:
        self._loop.call_soon_threadsafe(self.client.flush, utterance_id)

    def interrupt(self, played_ms: float | None = None) -> None:
        _call(self._loop, self.client.interrupt(played_ms))

    def stop(self, reason: str | None = None) -> None:
        _call(self._loop, self.client.stop(reason))


async def _begin(client: SpeechClient, text: Text, options: SpeakOptions) -> Speech:
    return client.speak(text, **options)


async def _next_of(speech: Speech) -> SpeechChunk | None:
    return await anext(speech, None)
