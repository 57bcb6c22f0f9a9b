"""The client for code without an event loop.

In: what :class:`SpeechClient` takes. Out: the same, in plain calls and a plain iterator. Does not know: the
wire. The connection lives on a loop in a thread of its own, so that it is served while the caller is busy.
"""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from makima_tts.client.connection import OnLoading
from makima_tts.client.conversation import SpeakOptions, SpeechClient
from makima_tts.client.heard import Heard
from makima_tts.client.reconnecting import Reconnects
from makima_tts.client.speech import Speech, SpeechChunk
from makima_tts.client.writing import Text
from makima_tts.protocol import Start

_T = TypeVar("_T")


class _LoopThread:
    """An event loop that runs until it is closed, for callers in other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="speech-client", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Runs it on the loop and waits; an interrupt (ctrl-C) of the wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingSpeech:
    """One utterance; iterate once, or ``save``, ``play`` or ``read`` it.

    ``speech`` holds what was measured and the terminal message.
    """

    def __init__(self, speech: Speech, loop: _LoopThread) -> None:
        self.speech = speech
        self._loop = loop

    def read(self) -> bytes:
        """As :meth:`Speech.read`."""
        return self._loop.call(self.speech.read())

    def save(self, path: Path | str) -> Path:
        """As :meth:`Speech.save`."""
        return self._loop.call(self.speech.save(path))

    def play(self) -> None:
        """As :meth:`Speech.play`; another thread may interrupt it."""
        self._loop.call(self.speech.play())

    def cancel(self, played_ms: int | None = None) -> None:
        """As :meth:`Speech.cancel`."""
        self._loop.call(self.speech.cancel(played_ms))

    def interrupt(self, played_ms: int | None = None) -> Heard:
        """As :meth:`Speech.interrupt`."""
        return self._loop.call(self.speech.interrupt(played_ms))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SpeechChunk:
        chunk = self._loop.call(_next_of(self.speech))
        if chunk is None:
            raise StopIteration
        return chunk


class BlockingSpeechClient:
    """A session with a service. As :meth:`SpeechClient.connect`, as a plain context manager."""

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
        self._loop = _LoopThread()
        try:
            self.client = self._loop.call(self._connecting.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._loop.call(self._connecting.__aexit__(None, None, None))
        finally:
            self._loop.close()

    def speak(self, text: Text, **options: Unpack[SpeakOptions]) -> BlockingSpeech:
        """As :meth:`SpeechClient.speak`."""
        return BlockingSpeech(self._loop.call(_begin(self.client, text, options)), self._loop)

    def flush(self, utterance_id: str) -> None:
        """As :meth:`SpeechClient.flush`."""
        self._loop.call(_flush(self.client, utterance_id))

    def interrupt(self, played_ms: int | None = None) -> None:
        """As :meth:`SpeechClient.interrupt`."""
        self._loop.call(self.client.interrupt(played_ms))

    def stop(self, reason: str | None = None) -> None:
        """As :meth:`SpeechClient.stop`."""
        self._loop.call(self.client.stop(reason))


async def _begin(client: SpeechClient, text: Text, options: SpeakOptions) -> Speech:
    return client.speak(text, **options)


async def _flush(client: SpeechClient, utterance_id: str) -> None:
    client.flush(utterance_id)


async def _next_of(speech: Speech) -> SpeechChunk | None:
    return await anext(speech, None)
