"""Load on a running server: listeners arrive at random, whether or not it keeps up, or so many stay.

In: a URL, a rate or a number of sessions, a duration, a seed (which fixes who arrives when, and says what).
Out: a table and, with --json, a file: TTFA, lateness and underruns by the listener's clock, RTF, audio made
per second, errors by code. Does not know: which engine runs there. A listener is a connection of its own that
says one text.

    python -m bench.load --url ws://127.0.0.1:8001/api/v1/speak --rate 2 --duration 30
    python -m bench.load --sessions 4 --duration 60 --voice anna --texts lines.txt
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Arrival:
    """A listener: when, after the beginning, and the name of the text."""

    at_s: float
    text: str


@dataclass(slots=True)
class Heard:
    """What one listener met. ``finish``: why the utterance ended; ``error``: the code of what went wrong."""

    text: str
    voice: str | None = None
    ttfa_s: float | None = None
    lateness_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    rtf: float | None = None
    finish: str | None = None
    error: str | None = None


def arrivals(rate_hz: float, duration_s: float, seed: int, names: Iterable[str] = TEXTS) -> Iterator[Arrival]:
    """A Poisson process, the same for the same seed."""
    random, choices = Random(seed), list(names)
    at_s = random.expovariate(rate_hz)
    while at_s < duration_s:
        yield Arrival(at_s, random.choice(choices))
        at_s += random.expovariate(rate_hz)


async def listen(url: str, start: Start, text: str, texts: Mapping[str, str] = TEXTS) -> Heard:
    """Connects, speaks one text and listens to its end."""
    heard = Heard(text)
    try:
        async with SpeechClient.connect(url, start) as client:
            await _hear(client, heard, texts[text])
    except ServiceError as error:
        heard.error = error.code
    except (ClientError, TimeoutError) as error:
        heard.error = type(error).__name__
    return heard


async def _hear(client: SpeechClient, heard: Heard, text: str) -> None:
    heard.voice = client.started.voice
    audio = AudioFormat(client.started.sample_rate, client.started.encoding)
    clock = ListenerClock()
    speech = client.speak(text)
    async for chunk in speech:
        duration_s = len(chunk.pcm) / audio.bytes_per_sample / audio.sample_rate_hz
        heard.lateness_s.append(clock.deliver(duration_s, chunk.received_s))
        heard.audio_s += duration_s
    heard.ttfa_s = speech.ttfa_s
    if speech.complete:
        heard.rtf, heard.finish = speech.complete.rtf, speech.complete.finish_reason


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
) -> tuple[list[Heard], float]:
    """So many at any time: whoever has heard everything is followed by the next, until the time is over."""
    began_s, random = time.monotonic(), Random(seed)

    async def seat() -> list[Heard]:
        heard = []
        while time.monotonic() - began_s < duration_s:
            heard.append(await listen(url, start, random.choice(list(texts)), texts))
            if heard[-1].error:  # refused at once, or gone: no use asking without a pause
                await asyncio.sleep(RETRY_S)
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


def texts_in(path: Path) -> dict[str, str]:
    """A text a line, named by its number."""
    lines = enumerate(path.read_text().splitlines(), start=1)
    return {f"line {number}": line for number, line in lines if line.strip()}


def given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8001/api/v1/speak")
    load_given = parser.add_mutually_exclusive_group()
    load_given.add_argument("--rate", type=float, default=1.0, help="listeners per second, on average")
    load_given.add_argument("--sessions", type=int, help="so many listeners at any time instead")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds in which they arrive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voice", help="else the server's default")
    parser.add_argument("--language", default="English", help="of the texts, a name or tag")
    parser.add_argument("--texts", type=Path, help="a file with a text a line, in place of three of ours")
    parser.add_argument("--json", type=Path, help="a file to write")
    return parser.parse_args()


def main() -> None:
    asked = given()
    texts = texts_in(asked.texts) if asked.texts else TEXTS
    start = Start(voice=asked.voice, language=asked.language)
    how_many = f"{asked.sessions} at a time" if asked.sessions else f"{asked.rate:g} per second"
    about = circumstances() | {"listeners": f"{how_many} for {asked.duration:g} s, seed {asked.seed}"}
    if asked.sessions:
        listening = occupy(asked.url, start, asked.sessions, asked.duration, seed=asked.seed, texts=texts)
    else:
        expected = list(arrivals(asked.rate, asked.duration, asked.seed, texts))
        listening = load(asked.url, start, expected, texts)
    found = summary(*asyncio.run(listening))
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{table(found['rows'])}\n")
    for name in ("audio seconds per second", "voices", "finished", "errors"):
        print(f"{name}: {found[name] or 'none'}")
    if asked.json:
        asked.json.write_text(json.dumps({**about, **found}, indent=2))


if __name__ == "__main__":
    main()
