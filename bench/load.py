"""Open-loop load on a running server: listeners arrive at random, whether or not the server keeps up.

In: a URL, a rate, a duration, a seed (which fixes who arrives when, and says what). Out: a table and, with
--json, a file: TTFA, lateness and underruns by the listener's clock, RTF, audio made per second, errors by
code. Does not know: which engine runs there. A listener is a connection of its own that says one text.

    python -m bench.load --url ws://127.0.0.1:8001/api/v1/speak --rate 2 --duration 30
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bench.report import circumstances, percentiles, table
from makima_tts.client import ClientError, ServiceError, SpeechClient
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


@dataclass(frozen=True, slots=True)
class Arrival:
    """A listener: when, after the beginning, and the name of the text."""

    at_s: float
    text: str


@dataclass(slots=True)
class Heard:
    """What one listener met. ``error`` is the code of what went wrong."""

    text: str
    ttfa_s: float | None = None
    lateness_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    rtf: float | None = None
    error: str | None = None


def arrivals(rate_hz: float, duration_s: float, seed: int) -> Iterator[Arrival]:
    """A Poisson process, the same for the same seed."""
    random = Random(seed)
    at_s = random.expovariate(rate_hz)
    while at_s < duration_s:
        yield Arrival(at_s, random.choice(list(TEXTS)))
        at_s += random.expovariate(rate_hz)


async def listen(url: str, start: Start, text: str) -> Heard:
    """Connects, speaks one text and listens to its end."""
    heard = Heard(text)
    try:
        async with SpeechClient.connect(url, start) as client:
            await _hear(client, heard)
    except ServiceError as error:
        heard.error = error.code
    except (ClientError, TimeoutError) as error:
        heard.error = type(error).__name__
    return heard


async def _hear(client: SpeechClient, heard: Heard) -> None:
    audio = AudioFormat(client.started.sample_rate, client.started.encoding)
    clock = ListenerClock()
    speech = client.speak(TEXTS[heard.text])
    async for chunk in speech:
        duration_s = len(chunk.pcm) / audio.bytes_per_sample / audio.sample_rate_hz
        heard.lateness_s.append(clock.deliver(duration_s, chunk.received_s))
        heard.audio_s += duration_s
    heard.ttfa_s = speech.ttfa_s
    heard.rtf = speech.complete.rtf if speech.complete else None


async def load(url: str, start: Start, expected: Sequence[Arrival]) -> tuple[list[Heard], float]:
    """All listeners, and the seconds until the last had heard everything."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for arrival in expected:
            await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.monotonic()))
            tasks.append(group.create_task(listen(url, start, arrival.text)))
    return [task.result() for task in tasks], time.monotonic() - began_s


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
    by_text = {name: [each for each in heard if each.text == name] for name in TEXTS}
    return {
        "rows": [row(name, each) for name, each in by_text.items() if each] + [row("all", heard)],
        "audio seconds per second": round(sum(each.audio_s for each in heard) / took_s, 2),
        "errors": dict(Counter(each.error for each in heard if each.error)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8001/api/v1/speak")
    parser.add_argument("--rate", type=float, default=1.0, help="listeners per second, on average")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds in which they arrive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voice", help="else the server's default")
    parser.add_argument("--json", type=Path, help="a file to write")
    given = parser.parse_args()
    about = circumstances() | {
        "rate": f"{given.rate:g} per second for {given.duration:g} s, seed {given.seed}"
    }
    expected = list(arrivals(given.rate, given.duration, given.seed))
    found = summary(*asyncio.run(load(given.url, Start(voice=given.voice), expected)))
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{table(found['rows'])}\n")
    print(
        f"audio seconds per second: {found['audio seconds per second']}\nerrors: {found['errors'] or 'none'}"
    )
    if given.json:
        given.json.write_text(json.dumps({**about, **found}, indent=2))


if __name__ == "__main__":
    main()
