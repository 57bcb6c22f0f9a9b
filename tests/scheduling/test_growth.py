"""When a growing text is spoken on: at once behind a quick writer, without a stop behind a slow one."""

import asyncio
from collections import deque

import numpy as np
import pytest

from makima_tts.engines.qwen3.growth import Growth
from makima_tts.engines.qwen3.slots import Lease
from makima_tts.engines.qwen3.utterance import EngineUtterance, PieceState
from makima_tts.speech import SpeechStream, UtteranceRequest

FRAME_S = 0.08


@pytest.mark.parametrize(("rows_per_s", "waits"), [(80, False), (20, False), (12.6, False), (5, True)])
def test_who_writes_faster_than_is_spoken_is_followed_from_the_third_row_on(
    rows_per_s: float, waits: bool
) -> None:
    growth, enough = Growth(0), []
    for number in range(3):
        now_s = 100 + number / rows_per_s
        growth.add(1, now_s)
        enough.append(growth.suffices(now_s, ahead_s=0, frame_s=FRAME_S))
    assert enough == [False, False, not waits]


@pytest.mark.parametrize("rows_per_s", [2, 5, 8, 11])
@pytest.mark.parametrize(("piece_index", "rows"), [(0, 12), (1, 24)], ids=["a clause", "a sentence"])
def test_behind_a_slow_writer_a_piece_is_spoken_without_a_stop(
    piece_index: int, rows: int, rows_per_s: float
) -> None:
    growth, now_s = Growth(piece_index), 50.0
    while not growth.suffices(now_s, ahead_s=0, frame_s=FRAME_S):
        now_s += 1 / rows_per_s
        growth.add(1, now_s)
    began_s, written, heard = now_s, growth.rows, 0
    while written < rows:
        now_s += 1 / rows_per_s
        heard = int((now_s - began_s) / FRAME_S)
        assert heard <= written
        written += 1


def test_who_still_has_something_to_hear_waits_for_less_text() -> None:
    growth = Growth(0)
    growth.add(4, 0.0)
    growth.add(1, 0.2)
    assert not growth.suffices(0.2, ahead_s=0.1, frame_s=FRAME_S)
    assert growth.suffices(0.2, ahead_s=0.3, frame_s=FRAME_S)


async def test_who_ran_dry_for_want_of_text_waits_for_enough_of_it_and_is_not_late() -> None:
    stream, utterance, piece = speaking()
    stream.feed("more", ends_piece=False)
    write(utterance, piece, 1, now_s=20.0)
    assert not utterance.standing(FRAME_S).able
    assert utterance.clock.plays_until_s is not None
    stream.feed("the rest")
    write(utterance, piece, 1, now_s=21.0)
    standing = utterance.standing(FRAME_S)
    assert (standing.able, standing.heard, standing.due_s) == (True, False, 21.0)
    assert standing.chunk_frames == 1
    utterance.deliver(piece, np.zeros(1920, np.float32), FRAME_S, 21.1)
    await asyncio.sleep(0)
    assert (await anext(stream)).waited_for_text


async def test_who_still_hears_is_spoken_to_with_the_next_word() -> None:
    stream, utterance, piece = speaking()
    assert not utterance.standing(FRAME_S).able
    stream.feed("more", ends_piece=False)
    write(utterance, piece, 1, now_s=10.5)
    standing = utterance.standing(FRAME_S)
    assert (standing.able, standing.heard, standing.due_s) == (True, True, 11.0)


async def test_text_that_is_not_written_yet_is_not_spoken_past() -> None:
    """As a pad of silence would be: what is known of the text ends where its rows do."""
    stream, utterance, _piece = speaking()
    stream.finish()
    assert utterance.advance(10.5)
    assert utterance.is_to_be_written
    assert not utterance.standing(FRAME_S).able


def speaking() -> tuple[SpeechStream, EngineUtterance, PieceState]:
    """Whoever has a second to hear from time 10 on, and whose text is used up but open."""
    stream, sink = SpeechStream.create(buffer_samples=48_000)
    utterance = EngineUtterance(UtteranceRequest("utterance"), sink, Lease(0, 1), since_s=0.0, grows=True)
    stream.feed("some", ends_piece=False)
    utterance.advance(10.0)
    piece = utterance.piece
    assert piece is not None
    piece.unread, piece.growth, piece.unwritten = deque(), None, None
    piece.trailing = piece.frames = 12
    piece.fresh, utterance.chunk_frames = False, 12
    utterance.clock.deliver(1.0, 10.0)
    return stream, utterance, piece


def write(utterance: EngineUtterance, piece: PieceState, rows: int, *, now_s: float) -> None:
    utterance.advance(now_s)
    piece.unwritten = None
    piece.trailing += rows
    utterance.speak_on(piece, rows, now_s, FRAME_S)
