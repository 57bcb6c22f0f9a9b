"""The sample queue of the worklet, tested in the browser."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.transport.processes import ServerProcess

FADE_SAMPLES = 240
REFILL_SAMPLES = 6_000

# Runs a script of pushes, ends, flushes and reads. Samples are numbered from 1, so that none is zero; a push
# may scale them down to silence.
_PLAY = """
async (script) => {
  const { SampleQueue } = await import("/static/client/sample-queue.js");
  const finished = [];
  const sounded = [];
  const queue = new SampleQueue(24000, {
    sounded: (utterance) => sounded.push(utterance),
    finished: (heard) => finished.push({ ...heard }),
  });
  let next = 1;
  const samples = (count, scale = 1) => Float32Array.from({ length: count }, () => next++ * scale);
  const output = [];
  for (const [act, ...rest] of script) {
    if (act === "push") queue.push(rest[0], samples(rest[1], rest[2]));
    else if (act === "end") queue.end(rest[0]);
    else if (act === "flush") queue.flush();
    else { const quantum = new Float32Array(rest[0]); queue.read(quantum); output.push(...quantum); }
  }
  return { output, finished, sounded, buffered: queue.bufferedSamples };
}
"""


class Queue:
    """Runs each script on a new queue."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def play(self, *script: tuple[object, ...]) -> dict[str, Any]:
        outcome: dict[str, Any] = self._page.evaluate(_PLAY, [list(step) for step in script])
        return outcome


@pytest.fixture(scope="module")
def queue(browser: Browser, server: ServerProcess) -> Iterator[Queue]:
    with browser.new_page() as page:
        page.goto(f"http://{server.host}:{server.port}/speak")
        yield Queue(page)


def test_any_split_of_pushes_and_reads_gives_the_same_samples(queue: Queue) -> None:
    chance = random.Random(7)
    for _ in range(10):
        script: list[tuple[object, ...]] = []
        pushed = 0
        for utterance in ("a", "b"):
            for _ in range(chance.randint(1, 8)):
                size = chance.randint(1, 400)
                pushed += size
                script += [("push", utterance, size)]
                script += [("read", chance.choice((1, 127, 128, 500)))] * chance.randint(0, 3)
            script.append(("end", utterance))
        outcome = queue.play(*script, ("read", pushed + 128))
        assert [sample for sample in outcome["output"] if sample] == list(range(1, pushed + 1))
        assert [heard["utterance"] for heard in outcome["finished"]] == ["a", "b"]
        assert sum(heard["playedSamples"] for heard in outcome["finished"]) == pushed
        assert outcome["buffered"] == 0


def test_available_samples_are_read_without_a_gap(queue: Queue) -> None:
    reads = [("read", 128)] * 10
    outcome = queue.play(("push", "a", 500), ("push", "a", 300), ("end", "a"), ("push", "b", 480), *reads)
    assert outcome["output"] == list(range(1, 1281))


def test_a_flush_leaves_a_fade_of_ten_milliseconds_and_nothing_else(queue: Queue) -> None:
    outcome = queue.play(
        ("push", "a", 5000), ("push", "b", 5000), ("read", 128), ("flush",), *[("read", 128)] * 4
    )
    faded = outcome["output"][128:]
    expected = range(129, 129 + FADE_SAMPLES)
    factors = [sample / unfaded for sample, unfaded in zip(faded, expected, strict=False)]
    assert factors[0] > 0.99
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 0
    assert not any(faded[FADE_SAMPLES:])
    assert (outcome["buffered"], outcome["finished"]) == (0, [])


def test_a_second_flush_continues_the_fade(queue: Queue) -> None:
    outcome = queue.play(
        ("push", "a", 5000), ("read", 128), ("flush",), ("read", 64), ("flush",), *[("read", 128)] * 4
    )
    before, after = outcome["output"][191], outcome["output"][192]
    assert 0 < after <= before
    assert not any(outcome["output"][128 + FADE_SAMPLES :])


def test_a_flush_before_any_playback_is_silent(queue: Queue) -> None:
    outcome = queue.play(("push", "a", 5000), ("flush",), ("read", 512))
    assert not any(outcome["output"])


def test_samples_after_a_flush_are_played_completely(queue: Queue) -> None:
    outcome = queue.play(
        ("push", "a", 500), ("read", 128), ("flush",), ("push", "b", 300), ("end", "b"), ("read", 1000)
    )
    assert outcome["output"][128 + FADE_SAMPLES :][:300] == list(range(501, 801))
    assert [heard["utterance"] for heard in outcome["finished"]] == ["b"]


def test_an_empty_queue_is_an_underrun_only_within_an_utterance(queue: Queue) -> None:
    dry = (("push", "a", 100), ("read", 256))
    ended = queue.play(*dry, ("end", "a"), ("read", 128))
    assert ended["finished"][0]["underruns"] == 0
    late = queue.play(*dry, ("push", "a", 100), ("push", "a", 100), ("end", "a"), ("read", 512))
    assert late["finished"][0]["underruns"] == 1


def test_after_an_underrun_playback_resumes_with_a_small_buffer(queue: Queue) -> None:
    dry = (("push", "a", 100), ("read", 128), ("read", 128))
    outcome = queue.play(
        *dry, ("push", "a", REFILL_SAMPLES - 1), ("read", 128), ("push", "a", 1), ("read", 128)
    )
    assert not any(outcome["output"][100:384])
    assert outcome["output"][384:] == list(range(101, 229))


def test_an_utterance_is_audible_from_its_first_sample_that_is_not_silent(queue: Queue) -> None:
    quiet = (("push", "a", 100, 1e-6), ("read", 100))
    assert queue.play(*quiet)["sounded"] == []
    assert queue.play(*quiet, ("push", "a", 10), ("end", "a"), ("read", 10))["sounded"] == ["a"]
