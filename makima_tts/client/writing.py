"""A text on its way out, in messages of the size that the service takes.

In: a text, whole or still being written. Out: its parts, in order, and what was written so far. Does not
know: sockets, other utterances.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing

from makima_tts.protocol import Flush, Speak, serialize

Text = str | Iterable[str] | AsyncIterable[str]


class Manuscript:
    """The messages of one utterance as far as they are written, and how many of them were sent.

    They are kept, so that they can be sent again over another connection.
    """

    def __init__(self, opening: Speak) -> None:
        self._opening = opening
        self._text: list[str] = []
        self._frames: list[str] = []
        self._sent = 0
        self._caught_up = asyncio.Event()

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(self._text)

    @property
    def is_sent(self) -> bool:
        """Whether any of it went to the connection that is open."""
        return self._sent > 0

    def write(self, text: str, *, final: bool) -> None:
        """Raises ValueError for what is no text (halves of characters)."""
        self._add(self._opening.model_copy(update={"text": text, "final": final}))
        self._text.append(text)

    def flush(self) -> None:
        self._add(Flush(utterance_id=str(self._opening.utterance_id)))

    def _add(self, message: Speak | Flush) -> None:
        self._frames.append(serialize(message))
        self._caught_up.clear()

    def take(self) -> str | None:
        """The next frame to send; None when there is none yet."""
        if self._sent == len(self._frames):
            self._caught_up.set()
            return None
        self._sent += 1
        return self._frames[self._sent - 1]

    def rewind(self) -> None:
        """Another connection has heard none of it."""
        self._sent = 0

    async def caught_up(self) -> None:
        """All that is written was sent: a writer waits for a service that reads slowly, or is away."""
        await self._caught_up.wait()


def fits_one_message(text: Text, max_chars: int) -> bool:
    """Whether ``text`` is whole, and short enough to be said at once."""
    return isinstance(text, str) and len(text) <= max_chars


async def parts_of(text: Text, max_chars: int) -> AsyncGenerator[str, None]:
    """Parts of 1 to ``max_chars`` code points. The service joins them again on no boundary at all.

    Whoever closes this stops who writes, too.
    """
    async with aclosing(_written(text)) as all_written:
        async for written in all_written:
            for start in range(0, len(written), max_chars):
                yield written[start : start + max_chars]


async def _written(text: Text) -> AsyncGenerator[str, None]:
    if isinstance(text, str):
        yield text
    elif isinstance(text, AsyncGenerator):
        async with aclosing(text):
            async for written in text:
                yield written
    elif isinstance(text, AsyncIterable):
        async for written in text:
            yield written
    else:
        async for written in _in_a_thread(text):
            yield written


async def _in_a_thread(text: Iterable[str]) -> AsyncIterator[str]:
    """An iterable may block (a file, another library's stream); the connection must not."""
    iterator = iter(text)
    while (written := await _next_in_a_thread(iterator)) is not None:
        yield written


async def _next_in_a_thread(iterator: Iterator[str]) -> str | None:
    """A daemon: unlike asyncio.to_thread's, one that never returns does not keep the process from ending."""
    part: Future[str | None] = Future()
    part.set_running_or_notify_cancel()  # whoever waits may leave; the thread may still answer
    threading.Thread(target=_read_next, args=(iterator, part), name="speech-text", daemon=True).start()
    return await asyncio.wrap_future(part)


def _read_next(iterator: Iterator[str], part: Future[str | None]) -> None:
    try:
        part.set_result(next(iterator, None))
    except BaseException as failure:
        part.set_exception(failure)
