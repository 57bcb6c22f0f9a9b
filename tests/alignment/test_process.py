"""The process that aligns, and what happens when it cannot."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from makima_tts.alignment.process import Aligner, Times
from tests.alignment.speech import RATE_HZ, joined

WORDS = ["she", "sells", "shells"]
SILENCE = np.zeros(160, np.int16)
# Answers each piece with the number of its samples, and dies of pieces with the words in DEADLY.
SCRIPT = """
import json, sys
while line := sys.stdin.buffer.readline():
    piece = json.loads(line)
    sys.stdin.buffer.read(2 * piece["samples"])
    if piece["words"] == ["die"]: sys.exit(1)
    print("not json" if piece["words"] == ["babble"] else json.dumps([[0, piece["samples"]]]), flush=True)
"""


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Aligner]:
    aligner = Aligner(command) if command else Aligner()
    try:
        yield aligner
    finally:
        await aligner.close()


def scripted() -> Sequence[str]:
    return sys.executable, "-c", SCRIPT


def ask(aligner: Aligner, words: list[str]) -> "asyncio.Future[Times]":
    return aligner.align(words, SILENCE, RATE_HZ, whole=True)


async def test_the_real_process_finds_words() -> None:
    pcm, known = joined(WORDS)
    async with running() as aligner:
        found = await aligner.align(WORDS, pcm, RATE_HZ, whole=True)
    assert [round(start, 1) for start, _ in found] == pytest.approx([start for start, _ in known], abs=0.1)


async def test_pieces_are_answered_in_order() -> None:
    async with running(*scripted()) as aligner:
        results = [aligner.align(["a"], SILENCE[:size], RATE_HZ, whole=True) for size in range(1, 6)]
        assert [await result for result in results] == [[(0, size)] for size in range(1, 6)]


@pytest.mark.parametrize("failing", ["die", "babble"])
async def test_after_a_failure_the_next_piece_has_a_new_process(failing: str) -> None:
    async with running(*scripted()) as aligner:
        lost, after = ask(aligner, [failing]), ask(aligner, ["a"])
        assert await lost == ()
        assert await after == [(0, SILENCE.size)]


async def test_a_process_that_cannot_be_started_means_no_times() -> None:
    async with running("/nowhere/at/all") as aligner:
        assert await ask(aligner, ["a"]) == ()
        assert await ask(aligner, ["a"]) == ()


async def test_more_than_can_wait_is_refused_at_once_and_a_cancelled_piece_is_passed_over() -> None:
    async with running(*scripted()) as aligner:
        results = [ask(aligner, ["a"]) for _ in range(8)]
        refused = ask(aligner, ["a"])
        assert refused.done()
        assert refused.result() == ()
        results[0].cancel()
        assert [await result for result in results[1:]] == [[(0, SILENCE.size)]] * 7


async def test_closing_twice_and_before_any_work_is_fine() -> None:
    aligner = Aligner()
    await aligner.close()
    async with running(*scripted()) as aligner:
        await ask(aligner, ["a"])
        await aligner.close()
