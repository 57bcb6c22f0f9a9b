"""The bridge between an engine, on any thread, and the event loop."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from makima_tts.errors import Cancelled, InvalidText, SynthesisError
from makima_tts.speech import AudioChunk, SpeechSink, SpeechStream, TextPart


def chunk(samples: int = 10, level: float = 0.5, piece_index: int = 0) -> AudioChunk:
    return AudioChunk(np.full(samples, level, np.float32), piece_index)


async def levels(stream: SpeechStream) -> list[float]:
    return [float(each.pcm[0]) async for each in stream]


def bridge(buffer_samples: int = 1000) -> tuple[SpeechStream, SpeechSink]:
    return SpeechStream.create(buffer_samples=buffer_samples)


async def on_a_thread(act: Callable[[], None]) -> None:
    """Run it to its end on another thread, while this one, the loop's, does nothing else."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


async def test_chunks_arrive_in_order_and_the_end_after_them() -> None:
    stream, sink = bridge()
    for level in (0.25, 0.5, 0.75):
        sink.put(chunk(level=level))
    sink.end("length")
    assert await levels(stream) == [0.25, 0.5, 0.75]
    assert stream.finish_reason == "length"


async def test_chunks_from_another_thread_wake_a_waiting_caller() -> None:
    stream, sink = bridge()
    waiting = asyncio.create_task(levels(stream))
    await asyncio.sleep(0)

    def engine() -> None:
        for level in (0.25, 0.5):
            sink.put(chunk(level=level))
        sink.end()

    await asyncio.to_thread(engine)
    assert await waiting == [0.25, 0.5]


async def test_chunks_of_the_loop_come_after_those_that_a_thread_has_put_before() -> None:
    stream, sink = bridge()
    await on_a_thread(lambda: sink.put(chunk(level=0.25)))
    sink.put(chunk(level=0.5))
    sink.end()
    assert await levels(stream) == [0.25, 0.5]


async def test_many_threads_lose_nothing() -> None:
    pairs = [bridge(buffer_samples=10**9) for _ in range(8)]

    def engine(sink: SpeechSink) -> None:
        for index in range(500):
            sink.put(chunk(piece_index=index))
        sink.end()

    threads = [threading.Thread(target=engine, args=(sink,)) for _, sink in pairs]
    for thread in threads:
        thread.start()
    for stream, _ in pairs:
        assert [each.piece_index async for each in stream] == list(range(500))
    for thread in threads:
        thread.join()


async def test_a_failure_comes_after_the_chunks_before_it() -> None:
    stream, sink = bridge()
    sink.put(chunk())
    sink.fail(InvalidText("No."))
    assert (await anext(stream)).pcm.size == 10
    with pytest.raises(InvalidText):
        await anext(stream)
    assert stream.finish_reason is None


async def test_only_the_first_ending_counts() -> None:
    stream, sink = bridge()
    sink.end()
    sink.fail(SynthesisError("Too late."))
    assert await levels(stream) == []
    assert stream.finish_reason == "stop"


async def test_after_a_cancel_no_chunk_is_ever_returned() -> None:
    stream, sink = bridge()
    sink.put(chunk())
    await on_a_thread(lambda: sink.put(chunk()))
    stream.cancel()
    stream.cancel()
    sink.put(chunk())
    await on_a_thread(lambda: sink.put(chunk()))
    sink.end()
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(Cancelled):
            await anext(stream)


async def test_a_cancel_reaches_the_engine_at_once_and_drops_the_text() -> None:
    wakes: list[bool] = []
    stream, sink = SpeechStream.create(buffer_samples=1, wake_engine=lambda: wakes.append(sink.cancelled))
    stream.feed("Never spoken.")
    stream.cancel()
    assert wakes == [False, True]
    assert sink.cancelled
    assert sink.take_piece() is None
    assert sink.text_closed
    stream.feed("Nor this.")
    assert await sink.next_piece() is None


async def test_a_cancel_ends_the_waits_of_an_engine() -> None:
    stream, sink = bridge(buffer_samples=10)
    sink.put(chunk(10))
    for_credit, for_text = asyncio.create_task(sink.credit()), asyncio.create_task(sink.next_piece())
    await asyncio.sleep(0)
    stream.cancel()
    assert await for_credit is False
    assert await for_text is None


async def test_credit_comes_back_with_the_chunks_that_are_taken() -> None:
    stream, sink = bridge(buffer_samples=20)
    sink.put(chunk(19))
    assert sink.has_credit
    sink.put(chunk(10))
    assert not sink.has_credit
    waiting = asyncio.create_task(sink.credit())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert (await anext(stream)).pcm.size == 19
    assert await waiting is True


async def test_credit_counts_what_was_put_before_the_loop_has_seen_it() -> None:
    _stream, sink = bridge(buffer_samples=20)
    await on_a_thread(lambda: sink.put(chunk(20)))
    assert not sink.has_credit


async def test_pieces_are_taken_in_order_until_the_text_is_closed() -> None:
    stream, sink = bridge()
    stream.feed("one")
    assert await sink.next_piece() == "one"
    waiting = asyncio.create_task(sink.next_piece())
    await asyncio.sleep(0)
    stream.feed("two")
    stream.feed("three")
    stream.finish()
    stream.feed("too late")
    assert await waiting == "two"
    assert sink.text_closed
    assert sink.take_piece() == "three"
    assert await sink.next_piece() is None


async def test_parts_are_joined_until_their_piece_ends() -> None:
    stream, sink = bridge()
    stream.feed("one", ends_piece=False)
    stream.feed(" and", ends_piece=False)
    assert sink.take_piece() is None
    stream.feed(" two")
    stream.feed("three")
    assert sink.take_piece() == "one and two"
    assert await sink.next_piece() == "three"
    assert sink.fed_chars == len("one and twothree")


async def test_closing_the_text_ends_an_open_piece() -> None:
    stream, sink = bridge()
    waiting = asyncio.create_task(sink.next_piece())
    stream.feed("half", ends_piece=False)
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.finish()
    stream.finish()
    assert await waiting == "half"
    assert await sink.next_piece() is None


async def test_parts_say_where_pieces_end() -> None:
    stream, sink = bridge()
    for text, ends_piece in (("one", False), ("", True), ("two", True), ("three", False)):
        stream.feed(text, ends_piece=ends_piece)
    stream.finish()
    assert list(iter(sink.take_part, None)) == [
        TextPart("one", False),
        TextPart("", True),
        TextPart("two", True),
        TextPart("three", False),
        TextPart("", True),
    ]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
async def test_what_is_not_a_number_fails_the_utterance(broken: float) -> None:
    stream, sink = bridge()
    sink.put(chunk(level=broken))
    with pytest.raises(SynthesisError):
        await anext(stream)
    assert sink.cancelled


def test_an_engine_may_put_chunks_after_the_loop_has_closed() -> None:
    async def create() -> SpeechSink:
        return bridge()[1]

    sink = asyncio.run(create())
    sink.put(chunk())
    sink.end()
