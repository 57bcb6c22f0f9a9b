"""Text from blocking iterables, read in a thread."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from makima_tts.client.writing import text_chunks

ROOT = Path(__file__).parents[2]

LEAVES_WHILE_A_TEXT_BLOCKS = """
import asyncio, threading
from makima_tts.client.writing import text_chunks

async def main():
    loop, blocked = asyncio.get_running_loop(), asyncio.Event()

    def text():
        loop.call_soon_threadsafe(blocked.set)
        threading.Event().wait()
        yield ""

    reading = asyncio.ensure_future(anext(text_chunks(text(), 10)))
    await blocked.wait()

asyncio.run(main())
"""


@pytest.mark.process
def test_a_text_that_blocks_for_ever_does_not_keep_the_process_alive() -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVES_WHILE_A_TEXT_BLOCKS], cwd=ROOT, timeout=15, check=False
    )
    assert left.returncode == 0


async def test_the_iterable_is_not_read_ahead() -> None:
    read: list[int] = []

    def text() -> Iterator[str]:
        for number in range(100):
            read.append(number)
            yield str(number)

    parts = text_chunks(text(), 10)
    assert [await anext(parts) for _ in range(3)] == ["0", "1", "2"]
    assert read == [0, 1, 2]


async def test_it_is_read_beside_the_loop() -> None:
    def text() -> Iterator[str]:
        yield threading.current_thread().name

    assert await anext(text_chunks(text(), 99)) != threading.current_thread().name
