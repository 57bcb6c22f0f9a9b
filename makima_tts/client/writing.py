"""The text of an utterance on its way out, in messages of the size that the service accepts.

In: a text, whole or still being written. Out: its messages, in order, and the text written so far. Does not
know: sockets, other utterances.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from itertools import accumulate

from makima_tts.protocol import Flush, Speak, serialize
from makima_tts.protocol.fields import SurrogateJoiner

Text = str | Iterable[str] | AsyncIterable[str]


class OutgoingText:
    """The messages of one utterance written so far, and how many of them were sent.

    They are kept, so that they can be sent again over another connection. ``resumed_chars``: so much of the
    text belongs to earlier utterances of the service, see ``resume``.
    """

    def __init__(self, template: Speak) -> None:
        self._template = template
        self._joiner = SurrogateJoiner()
        self._texts: list[str] = []
        self._messages: list[Speak | Flush] = []
        self._ended = False
        self.resumed_chars = 0
        self._sent = 0
        self._all_sent = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def is_sent(self) -> bool:
        """Whether any of it went to the current connection."""
        return self._sent > 0

    def write(self, text: str, *, final: bool) -> None:
        """Half of a surrogate pair at the end of the text is sent with the next one."""
        text = self._joiner.feed(text) + (self._joiner.end() if final else "")
        self._add(self._template.model_copy(update={"text": text, "final": final}))
        self._texts.append(text)
        self._ended = final

    def flush(self) -> None:
        self._add(Flush(utterance_id=str(self._template.utterance_id)))

    def _add(self, message: Speak | Flush) -> None:
        self._messages.append(message)
        self._all_sent.clear()

    def resume(self, received_chars: int, utterance_id: str) -> bool:
        """The service has closed the text, with so many characters, because its writer paused.

        What it has not received is sent under this id. False if nothing is left of a text that has ended.
        """
        if self._ended and (len(self._messages) == 1 or received_chars == 0):
            return False
        ends = accumulate(len(one.text) if isinstance(one, Speak) else 0 for one in self._messages)
        rest = [one for one, end in zip(self._messages, ends, strict=True) if end > received_chars]
        if self._ended and not rest:
            return False
        update = {"utterance_id": utterance_id}
        self._template = self._template.model_copy(update=update)
        self._messages = [one.model_copy(update=update) for one in rest]
        self._sent = 0
        self.resumed_chars += received_chars
        return True

    def take(self) -> str | None:
        """The next frame to send; None when all written frames were sent."""
        if self._sent == len(self._messages):
            self._all_sent.set()
            return None
        self._sent += 1
        return serialize(self._messages[self._sent - 1])

    def rewind(self) -> None:
        """Send all of it again, over a new connection."""
        self._sent = 0

    async def until_sent(self) -> None:
        """Backpressure for the writer: waits while the service reads slowly or is away."""
        await self._all_sent.wait()


async def text_chunks(text: Text, max_chars: int) -> AsyncGenerator[str, None]:
    """Chunks of 1 to ``max_chars`` code points, which the service joins without a separator.

    Closing this generator closes ``text`` too.
    """
    async with aclosing(_chunks_as_written(text)) as chunks:
        async for chunk in chunks:
            for start in range(0, len(chunk), max_chars):
                yield chunk[start : start + max_chars]


async def _chunks_as_written(text: Text) -> AsyncGenerator[str, None]:
    if isinstance(text, str):
        yield text
    elif isinstance(text, AsyncGenerator):
        async with aclosing(text):
            async for chunk in text:
                yield chunk
    else:
        async for chunk in text if isinstance(text, AsyncIterable) else _in_a_thread(text):
            yield chunk


async def _in_a_thread(text: Iterable[str]) -> AsyncIterator[str]:
    """An iterable may block (a file, another library's stream); the connection must not."""
    iterator = iter(text)
    while (chunk := await _next_in_a_thread(iterator)) is not None:
        yield chunk


async def _next_in_a_thread(iterator: Iterator[str]) -> str | None:
    """A daemon thread: unlike one of asyncio.to_thread, it does not keep the process alive if it blocks."""
    chunk: Future[str | None] = Future()
    chunk.set_running_or_notify_cancel()  # the waiting task may be cancelled; the thread may still answer
    threading.Thread(target=_read_next, args=(iterator, chunk), name="speech-text", daemon=True).start()
    return await asyncio.wrap_future(chunk)


def _read_next(iterator: Iterator[str], chunk: Future[str | None]) -> None:
    try:
        chunk.set_result(next(iterator, None))
    except BaseException as failure:
        chunk.set_exception(failure)
