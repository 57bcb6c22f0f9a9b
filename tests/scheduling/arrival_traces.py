"""Who asks for speech, when, and for how much: arrival traces.

In: rates, sizes, a seed; or a file. Out: arrivals in order. Does not know: engines, policies.

The file (``traces/conversations.json``) is synthetic, written once and kept so that runs can be compared:
some people talk with a speaking assistant, whose answers come sentence by sentence, with pauses in which they
think.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

STORED = Path(__file__).parent / "traces" / "conversations.json"

# Characters of a text: a word or two, a sentence, a paragraph.
_SIZES = ((8, 30), (50, 110), (200, 420))
_SIZE_WEIGHTS = (0.3, 0.5, 0.2)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, ``at_s`` after the beginning, for a text of this many characters."""

    at_s: float
    chars: int


def some_text(random: Random) -> int:
    """Characters of a text."""
    return random.randint(*random.choices(_SIZES, _SIZE_WEIGHTS)[0])


def poisson(rate_hz: float, duration_s: float, seed: int) -> Iterator[Arrival]:
    """Independent people."""
    random = Random(seed)
    at_s = random.expovariate(rate_hz)
    while at_s < duration_s:
        yield Arrival(at_s, some_text(random))
        at_s += random.expovariate(rate_hz)


def bursts(size: int, every_s: float, duration_s: float, seed: int) -> Iterator[Arrival]:
    """So many within 20 ms, again and again."""
    random = Random(seed)
    for number in range(int(duration_s / every_s)):
        at_s = number * every_s
        offsets = sorted(random.uniform(0, 0.02) for _ in range(size))
        yield from (Arrival(at_s + offset_s, some_text(random)) for offset_s in offsets)


def conversations(people: int, duration_s: float, seed: int) -> list[Arrival]:
    """What the stored file was made with: each person asks, hears one to four sentences, and thinks."""
    random, asked = Random(seed), []
    for _ in range(people):
        at_s = random.uniform(0, 10)
        while at_s < duration_s:
            for _ in range(random.randint(1, 4)):
                chars = random.randint(20, 140)
                asked.append(Arrival(round(at_s, 3), chars))
                at_s += 0.3 + chars / 15  # the next sentence is there while this one is heard
            at_s += random.uniform(2, 12)
    return sorted(asked, key=lambda arrival: arrival.at_s)


def stored(path: Path = STORED) -> list[Arrival]:
    """A file of ``{"arrivals": [[seconds, characters], …]}``."""
    return [Arrival(at_s, chars) for at_s, chars in json.loads(path.read_text())["arrivals"]]
