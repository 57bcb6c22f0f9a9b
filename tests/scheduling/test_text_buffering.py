"""When an incomplete text is spoken: at once behind a fast writer, without a stop behind a slow one."""

import asyncio
from collections import deque

import numpy as np
import pytest

from makima_tts.engines.qwen3.utterance import (
    BufferingText,
    CurrentPiece,
    EngineUtterance,
    Generating,
    Prefilling,
)
from makima_tts.speech import SpeechStream, UtteranceRequest

FRAME_S = 0.08


def buffering(piece_index: int = 0) -> BufferingText:
    return BufferingText(Prefilling(deque()), piece_index)


@pytest.mark.parametrize(("rows_per_s", "waits"), [(80, False), (20, False), (12.6, False), (5, True)])
def test_a_writer_faster_than_speech_is_followed_from_the_third_row_on(
    rows_per_s: float, waits: bool
) -> None:
    state, enough = buffering(), []
    for number in range(3):
        now_s = 100 + number / rows_per_s
        state.add(1, now_s)
        enough.append(state.suffices(now_s, ahead_s=0, frame_s=FRAME_S))
    assert enough == [False, False, not waits]


@pytest.mark.parametrize("rows_per_s", [2, 5, 8, 11])
@pytest.mark.parametrize(("piece_index", "rows"), [(0, 12), (1, 24)], ids=["a clause", "a sentence"])
def test_behind_a_slow_writer_a_piece_is_spoken_without_a_stop(
    piece_index: int, rows: int, rows_per_s: float
) -> None:
    state, now_s = buffering(piece_index), 50.0
    while not state.suffices(now_s, ahead_s=0, frame_s=FRAME_S):
        now_s += 1 / rows_per_s
        state.add(1, now_s)
    began_s, written = now_s, state.rows
    while written < rows:
        now_s += 1 / rows_per_s
        played = int((now_s - began_s) / FRAME_S)
        assert played <= written
        written += 1


def test_less_text_suffices_while_the_listener_still_has_sound_to_play() -> None:
    state = buffering()
    state.add(4, 0.0)
    state.add(1, 0.2)
    assert not state.suffices(0.2, ahead_s=0.1, frame_s=FRAME_S)
    assert state.suffices(0.2, ahead_s=0.3, frame_s=FRAME_S)


async def test_an_utterance_that_ran_dry_for_want_of_text_buffers_it_and_is_not_late() -> None:
    stream, utterance = starved()
    stream.feed("more", ends_piece=False)
    write(utterance, 1, now_s=20.0)
    assert isinstance(utterance.state, BufferingText)
    assert not utterance.snapshot(FRAME_S).runnable
    assert utterance.clock.plays_until_s is not None
    stream.feed("the rest")
    write(utterance, 1, now_s=21.0)
    snapshot = utterance.snapshot(FRAME_S)
    assert (snapshot.runnable, snapshot.playback_started, snapshot.underrun_at_s) == (True, False, 21.0)
    assert snapshot.chunk_frames == 1
    utterance.deliver(np.zeros(1920, np.float32), FRAME_S, 21.1)
    await asyncio.sleep(0)
    assert (await anext(stream)).waited_for_text


async def test_while_the_listener_still_has_sound_the_next_word_is_spoken_at_once() -> None:
    stream, utterance = starved()
    assert not utterance.snapshot(FRAME_S).runnable
    stream.feed("more", ends_piece=False)
    write(utterance, 1, now_s=10.5)
    snapshot = utterance.snapshot(FRAME_S)
    assert (snapshot.runnable, snapshot.playback_started, snapshot.underrun_at_s) == (True, True, 11.0)


async def test_no_frame_is_generated_for_text_that_is_not_written_yet() -> None:
    """It would be silence: the text rows end where the written text does."""
    stream, utterance = starved()
    stream.finish()
    assert utterance.take_text(10.5)
    assert utterance.has_unwritten_text
    assert not utterance.snapshot(FRAME_S).runnable


def starved() -> tuple[SpeechStream, EngineUtterance]:
    """Its listener has a second to play from time 10 on; the rows of its open text are used up."""
    stream, sink = SpeechStream.create(buffer_samples=48_000)
    request = UtteranceRequest("utterance")
    utterance = EngineUtterance(request, sink, 0, since_s=0.0, streams_text=True, chunk_frames=12)
    stream.feed("some", ends_piece=False)
    utterance.take_text(10.0)
    utterance.state = Generating()
    utterance.piece = CurrentPiece(0, "some", prompt_rows=20, text_rows=12, frames=12)
    utterance.clock.deliver(1.0, 10.0)
    return stream, utterance


def write(utterance: EngineUtterance, rows: int, *, now_s: float) -> None:
    utterance.take_text(now_s)
    utterance.piece.unwritten.clear()
    utterance.piece.text_rows += rows
    utterance.resume(rows, now_s, FRAME_S)
