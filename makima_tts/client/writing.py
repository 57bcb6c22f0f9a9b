"""A text on its way out, in messages of the size that the service takes.

In: a text, whole or still being written. Out: its parts, in order. Does not know: sockets, utterances.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable

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
    while (written := await asyncio.to_thread(next, iterator, None)) is not None:
        yield written
