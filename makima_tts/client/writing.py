"""A text on its way out, in messages of the size that the service takes.

In: a text, whole or still being written. Out: its parts, in order. Does not know: sockets, utterances.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future

Text = str | Iterable[str] | AsyncIterable[str]


def fits_one_message(text: Text, max_chars: int) -> bool:
    """Whether ``text`` is whole, and short enough to be said at once."""
    return isinstance(text, str) and len(text) <= max_chars


async def parts_of(text: Text, max_chars: int) -> AsyncIterator[str]:
    """Parts of 1 to ``max_chars`` code points. The service joins them again on no boundary at all."""
    async for written in _written(text):
        for start in range(0, len(written), max_chars):
            yield written[start : start + max_chars]


async def _written(text: Text) -> AsyncIterator[str]:
    if isinstance(text, str):
        yield text
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
