"""Listeners: each a connection of its own that says a text and hears it to its end.

In: a URL, who arrives when and says what. Out: what each of them met, and tables of that. Does not know:
which engine runs there.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.report import percentiles
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

RETRY_S = 0.5
# Those who stay do not all begin at the same moment.
SPREAD_S = 1.0
# Sound is what reaches so much in a hundredth of a second: -50 dBFS.
_HEARD_RMS = 10 ** (-50 / 20)
_WINDOWS_A_S = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """A listener: when, after the beginning, and the name of the text."""

    at_s: float
    text: str


@dataclass(slots=True)
class Heard:
    """What one listener met. ``finish``: why the utterance ended; ``error``: the code of what went wrong.

    ``lateness_s``: of every chunk, by the clock of who began to listen at the first. ``audible_s``: from
    ``speak`` to the first sound that is no silence, as it is played. ``arrivals``: of every chunk, when it
    came, by ``time.monotonic``, and its seconds. ``plays_until_s``: when the last of it has been played.
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

    @property
    def first_to_last_s(self) -> float | None:
        """Between the arrivals of its first chunk and its last."""
        return self.arrivals[-1][0] - self.arrivals[0][0] if self.arrivals else None


def arrivals(rate_hz: float, duration_s: float, seed: int, names: Iterable[str] = TEXTS) -> Iterator[Arrival]:
    """A Poisson process, the same for the same seed."""
    random, choices = Random(seed), list(names)
    at_s = random.expovariate(rate_hz)
    while at_s < duration_s:
        yield Arrival(at_s, random.choice(choices))
        at_s += random.expovariate(rate_hz)


async def listen(
    url: str,
    start: Start,
    text: str,
    texts: Mapping[str, str] = TEXTS,
    *,
    until_s: float = math.inf,
) -> Heard:
    """Connects, speaks one text and listens to its end; goes before it, by ``time.monotonic``."""
    heard = Heard(text)
    try:
        # A connection that is lost is to be seen here.
        async with SpeechClient.connect(url, start, reconnects=Reconnects(attempts=0)) as client:
            await _hear(client, heard, texts[text], until_s)
    except ServiceError as error:
        heard.error = error.code
    except (ClientError, TimeoutError) as error:
        heard.error = type(error).__name__
    return heard


async def _hear(client: SpeechClient, heard: Heard, text: str, until_s: float) -> None:
    heard.voice = client.started.voice
    audio = AudioFormat(client.started.sample_rate, client.started.encoding)
    clock = ListenerClock()
    speech = client.speak(text)
    async for chunk in speech:
        duration_s = len(chunk.pcm) / audio.bytes_per_sample / audio.sample_rate_hz
        heard.lateness_s.append(clock.deliver(duration_s, chunk.received_s))
        heard.arrivals.append((chunk.received_s, duration_s))
        heard.audio_s += duration_s
        heard.plays_until_s = clock.plays_until_s
        if heard.audible_s is None and (silent_s := silent_until_s(chunk.pcm, audio)) is not None:
            played_s = (clock.plays_until_s or 0.0) - duration_s + silent_s
            heard.audible_s = played_s - (speech.sent_s or played_s)
        if chunk.received_s >= until_s:
            break
    heard.ttfa_s = speech.ttfa_s
    if speech.complete:
        heard.rtf, heard.finish = speech.complete.rtf, speech.complete.finish_reason


def silent_until_s(pcm: bytes, audio: AudioFormat) -> float | None:
    """How much silence it begins with; None if there is nothing else in it."""
    samples = _samples(pcm, audio)
    window = audio.sample_rate_hz // _WINDOWS_A_S
    whole = samples[: len(samples) - len(samples) % window].reshape(-1, window)
    loud = np.square(whole).mean(axis=1) >= _HEARD_RMS**2
    return float(loud.argmax()) / _WINDOWS_A_S if loud.any() else None


def _samples(pcm: bytes, audio: AudioFormat) -> npt.NDArray[np.float32]:
    if audio.encoding == "pcm32f":
        return np.frombuffer(pcm, "<f4")
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(2**15)


async def load(
    url: str, start: Start, expected: Sequence[Arrival], texts: Mapping[str, str] = TEXTS
) -> tuple[list[Heard], float]:
    """All listeners, and the seconds until the last had heard everything."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for arrival in expected:
            await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.monotonic()))
            tasks.append(group.create_task(listen(url, start, arrival.text, texts)))
    return [task.result() for task in tasks], time.monotonic() - began_s


async def occupy(
    url: str,
    start: Start,
    sessions: int,
    duration_s: float,
    *,
    seed: int = 0,
    texts: Mapping[str, str] = TEXTS,
    spread_s: float = SPREAD_S,
    plays: bool = False,
) -> tuple[list[Heard], float]:
    """So many at any time: whoever has heard everything is followed by the next, until the time is over.

    ``spread_s``: over how long the first of them come. ``plays``: the next comes when it has been played, and
    not as soon as it is there; when the time is over, nobody stays to hear the end.
    """
    began_s, random = time.monotonic(), Random(seed)
    until_s = began_s + duration_s

    async def seat() -> list[Heard]:
        heard = []
        await asyncio.sleep(random.uniform(0, min(spread_s, duration_s / 2)))
        while time.monotonic() < until_s:
            text, leaves_s = random.choice(list(texts)), until_s if plays else math.inf
            heard.append(await listen(url, start, text, texts, until_s=leaves_s))
            if heard[-1].error:  # refused at once, or gone: no use asking without a pause
                await asyncio.sleep(RETRY_S)
            elif plays and heard[-1].plays_until_s is not None:
                await asyncio.sleep(min(heard[-1].plays_until_s, until_s) - time.monotonic())
        return heard

    async with asyncio.TaskGroup() as group:
        seats = [group.create_task(seat()) for _ in range(sessions)]
    return [heard for each in seats for heard in each.result()], time.monotonic() - began_s


def row(name: str, heard: Sequence[Heard]) -> dict[str, Any]:
    """One line of the table: the listeners of one text, or all."""
    ttfa_ms = [each.ttfa_s * 1000 for each in heard if each.ttfa_s is not None]
    late_ms = [lateness_s * 1000 for each in heard for lateness_s in each.lateness_s if lateness_s > 0]
    rtf = [each.rtf for each in heard if each.rtf is not None]
    return {
        "text": name,
        "listeners": len(heard),
        "errors": sum(each.error is not None for each in heard),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 99).items()},
        "underruns": len(late_ms),
        "lateness p95 ms": percentiles(late_ms, 95)["p95"],
        "RTF p50": percentiles(rtf, 50)["p50"],
        "audio s": round(sum(each.audio_s for each in heard), 1),
    }


def summary(heard: Sequence[Heard], took_s: float) -> dict[str, Any]:
    """Everything that is reported."""
    by_text = {each.text: [other for other in heard if other.text == each.text] for each in heard}
    return {
        "rows": [row(name, by_text[name]) for name in sorted(by_text)] + [row("all", heard)],
        "audio seconds per second": round(sum(each.audio_s for each in heard) / took_s, 2),
        "voices": dict(Counter(each.voice for each in heard if each.voice)),
        "finished": dict(Counter(each.finish for each in heard if each.finish)),
        "errors": dict(Counter(each.error for each in heard if each.error)),
    }
