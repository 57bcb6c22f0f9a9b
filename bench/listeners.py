"""Listeners: each has its own connection, sends a text and receives its speech to the end.

In: a URL, texts, and the load: random arrivals (open), or a number of concurrent sessions (closed). Out: a
ListenerResult of each, and tables of them. Does not know: the engine of the server.

A ListenerPool runs them in several processes, so that their cost is neither the server's nor each other's.
"""

import asyncio
import math
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import numpy as np

from bench.report import percentiles
from bench.voice import LANGUAGE
from makima_tts.client import ClientError, Reconnects, ServiceError, SpeechClient
from makima_tts.protocol import AudioFormat, Start
from makima_tts.speech import ListenerClock

TEXTS = {
    "short": "Yes, of course.",
    "medium": "The train to the coast leaves in ten minutes, from the platform on the other side.",
    "long": (
        "When the storm had passed, the harbour lay still. Nobody spoke of the boats that were missing. "
        "Two of them came home that evening, with torn sails. The third was seen a week later, "
        "far to the south, and its men were well. They had followed the wind, they said, because there was "
        "nothing else to follow."
    ),
}
START = Start(language=LANGUAGE)
RETRY_S = 0.5
# Concurrent sessions do not all begin at the same moment.
SPREAD_S = 1.0
# Windows of 10 ms below -50 dBFS are silence.
_AUDIBLE_RMS = 10 ** (-50 / 20)
_WINDOWS_PER_S = 100
_Load = Coroutine[Any, Any, tuple[list["ListenerResult"], float]]


# Seconds after the beginning, and the name of a text.
Arrival = tuple[float, str]


@dataclass(slots=True)
class ListenerResult:
    """``finish``: why the utterance ended. ``error``: the code of a failure.

    ``lateness_s``: of every chunk, for a listener who plays without a pause from the first chunk on.
    ``audible_s``: from ``speak`` to the first sample of sound that is no silence, as it is played.
    ``arrivals``: of every chunk, its time by ``time.monotonic`` and its seconds of sound.
    ``plays_until_s``: the end of playback.
    """

    text: str
    voice: str | None = None
    ttfa_s: float | None = None
    audible_s: float | None = None
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    plays_until_s: float | None = None
    lateness_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    rtf: float | None = None
    finish: str | None = None
    error: str | None = None

    @property
    def underruns(self) -> int:
        return sum(lateness_s > 0 for lateness_s in self.lateness_s)


def poisson(rate_hz: float, duration_s: float, seed: int, names: Iterable[str] = TEXTS) -> Iterator[Arrival]:
    """Arrivals of a Poisson process; the same seed gives the same ones."""
    random, texts = Random(seed), list(names)
    at_s = random.expovariate(rate_hz)
    while at_s < duration_s:
        yield at_s, random.choice(texts)
        at_s += random.expovariate(rate_hz)


async def listen(
    url: str,
    text: str,
    texts: Mapping[str, str] = TEXTS,
    *,
    start: Start = START,
    until_s: float = math.inf,
) -> ListenerResult:
    """Sends one text and receives its speech to the end, or until ``until_s`` by ``time.monotonic``."""
    result = ListenerResult(text)
    try:
        # No reconnecting: a lost connection counts as an error.
        async with SpeechClient.connect(url, start, reconnects=Reconnects(attempts=0)) as client:
            await _listen(client, result, texts[text], until_s)
    except ServiceError as error:
        result.error = error.code
    except (ClientError, TimeoutError) as error:
        result.error = type(error).__name__
    return result


async def _listen(client: SpeechClient, result: ListenerResult, text: str, until_s: float) -> None:
    result.voice = client.started.voice
    clock, speech = ListenerClock(), client.speak(text)
    audio = speech.audio_format
    async for chunk in speech:
        duration_s = len(chunk.pcm) / audio.bytes_per_sample / audio.sample_rate_hz
        result.lateness_s.append(clock.deliver(duration_s, chunk.received_s))
        result.arrivals.append((chunk.received_s, duration_s))
        result.audio_s += duration_s
        result.plays_until_s = clock.plays_until_s
        if result.audible_s is None and (silence_s := leading_silence_s(chunk.pcm, audio)) is not None:
            played_s = (clock.plays_until_s or 0.0) - duration_s + silence_s
            result.audible_s = played_s - (speech.sent_s or played_s)
        if chunk.received_s >= until_s:
            break
    result.ttfa_s = speech.ttfa_s
    if speech.complete:
        result.rtf, result.finish = speech.complete.rtf, speech.complete.finish_reason


def leading_silence_s(pcm: bytes, audio: AudioFormat) -> float | None:
    """Seconds of silence before the first sound of a chunk; None if all of it is silence."""
    samples = np.frombuffer(pcm, "<f4" if audio.encoding == "pcm32f" else "<i2").astype(np.float32)
    if audio.encoding != "pcm32f":
        samples /= 2**15
    window = audio.sample_rate_hz // _WINDOWS_PER_S
    whole = samples[: len(samples) - len(samples) % window].reshape(-1, window)
    loud = np.square(whole).mean(axis=1) >= _AUDIBLE_RMS**2
    return float(loud.argmax()) / _WINDOWS_PER_S if loud.any() else None


async def open_load(
    url: str, arrivals: Sequence[Arrival], texts: Mapping[str, str] = TEXTS, *, start: Start = START
) -> tuple[list[ListenerResult], float]:
    """Listeners arrive at their times whether or not the server keeps up. Results, and seconds in all."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for at_s, text in arrivals:
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
            tasks.append(group.create_task(listen(url, text, texts, start=start)))
    return [task.result() for task in tasks], time.monotonic() - began_s


async def closed_load(
    url: str,
    sessions: int,
    duration_s: float,
    texts: Mapping[str, str] = TEXTS,
    *,
    start: Start = START,
    seed: int = 0,
    spread_s: float = SPREAD_S,
    plays: bool = False,
) -> tuple[list[ListenerResult], float]:
    """A fixed number of concurrent sessions; a new one follows each that ends, until the time is over.

    ``spread_s``: the first ones begin within it. ``plays``: the next session begins when the last one has
    been played, not when it has been received; all end when the time is over.
    """
    began_s, random = time.monotonic(), Random(seed)
    until_s = began_s + duration_s

    async def sessions_in_turn() -> list[ListenerResult]:
        results = []
        await asyncio.sleep(random.uniform(0, min(spread_s, duration_s / 2)))
        while time.monotonic() < until_s:
            text, leaves_s = random.choice(list(texts)), until_s if plays else math.inf
            results.append(await listen(url, text, texts, start=start, until_s=leaves_s))
            if results[-1].error:  # a server that refuses is not asked again at once
                await asyncio.sleep(RETRY_S)
            elif plays and results[-1].plays_until_s is not None:
                await asyncio.sleep(min(results[-1].plays_until_s, until_s) - time.monotonic())
        return results

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sessions_in_turn()) for _ in range(sessions)]
    return [result for task in tasks for result in task.result()], time.monotonic() - began_s


class ListenerPool:
    """Its processes have started and imported what they need."""

    def __init__(self, executor: ProcessPoolExecutor, processes: int) -> None:
        self._executor = executor
        self._processes = processes

    def open_load(
        self, url: str, texts: Mapping[str, str], rate_hz: float, duration_s: float
    ) -> list[ListenerResult]:
        """A Poisson process is the sum of as many slower ones."""
        rate_hz /= self._processes
        arrivals = [list(poisson(rate_hz, duration_s, seed, texts)) for seed in range(self._processes)]
        return self._results(partial(open_load, url, each, texts) for each in arrivals)

    def closed_load(
        self, url: str, texts: Mapping[str, str], sessions: int, duration_s: float, **options: Any
    ) -> list[ListenerResult]:
        """See the function ``closed_load``; ``options``: its keywords."""
        shares = [len(range(first, sessions, self._processes)) for first in range(self._processes)]
        return self._results(
            partial(closed_load, url, share, duration_s, texts, seed=seed, **options)
            for seed, share in enumerate(shares)
        )

    def _results(self, loads: Iterable[Callable[[], _Load]]) -> list[ListenerResult]:
        tasks = [self._executor.submit(_run_load, load) for load in loads]
        return [result for task in tasks for result in task.result()]


def _run_load(load: Callable[[], _Load]) -> list[ListenerResult]:
    return asyncio.run(load())[0]


@contextmanager
def listener_pool(processes: int) -> Iterator[ListenerPool]:
    # Not forked: a process that holds a device's context must not be copied.
    context = multiprocessing.get_context("spawn")
    all_started = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, all_started.wait) as executor:
        for task in [executor.submit(len, ()) for _ in range(processes)]:
            task.result()
        yield ListenerPool(executor, processes)


def row_of(results: Sequence[ListenerResult]) -> dict[str, Any]:
    """A row of a table about these listeners."""
    ttfa_ms = [each.ttfa_s * 1e3 for each in results if each.ttfa_s is not None]
    audible_ms = [each.audible_s * 1e3 for each in results if each.audible_s is not None]
    late_ms = [late_s * 1e3 for each in results for late_s in each.lateness_s if late_s > 0]
    audio_s = sum(each.audio_s for each in results)
    return {
        "listeners": len(results),
        "errors": sum(each.error is not None for each in results),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 99, 100).items()},
        **{f"audible {rank} ms": value for rank, value in percentiles(audible_ms, 50, 95).items()},
        "underruns": len(late_ms),
        "underruns a minute": round(len(late_ms) / audio_s * 60, 2) if audio_s else None,
        **{f"lateness {rank} ms": value for rank, value in percentiles(late_ms, 50, 95).items()},
        "longest gap, ms": max(late_ms, default=0.0),
        "RTF p50": percentiles([each.rtf for each in results if each.rtf is not None], 50)["p50"],
        "audio p50 s": percentiles([each.audio_s for each in results], 50)["p50"],
        "audio s": round(audio_s, 1),
    }


def summary(results: Sequence[ListenerResult], took_s: float) -> dict[str, Any]:
    """A row for each text and one for all; totals."""
    by_text = {each.text: [other for other in results if other.text == each.text] for each in results}
    return {
        "rows": [{"text": name, **row_of(by_text[name])} for name in sorted(by_text)]
        + [{"text": "all", **row_of(results)}],
        "audio seconds per second": round(sum(each.audio_s for each in results) / took_s, 2),
        "voices": dict(Counter(each.voice for each in results if each.voice)),
        "finished": dict(Counter(each.finish for each in results if each.finish)),
        "errors": dict(Counter(each.error for each in results if each.error)),
    }


def without_gaps(results: Sequence[ListenerResult]) -> bool:
    """There was a listener, and none had an underrun or an error."""
    return bool(results) and not any(each.underruns or each.error for each in results)


def audio_per_second(results: Sequence[ListenerResult], from_s: float, until_s: float) -> float:
    """Seconds of sound received per second, between two times after the first arrival."""
    arrivals = [arrival for each in results for arrival in each.arrivals]
    first_s = min((at_s for at_s, _ in arrivals), default=0.0)
    within = (duration_s for at_s, duration_s in arrivals if from_s <= at_s - first_s < until_s)
    return sum(within) / (until_s - from_s)
