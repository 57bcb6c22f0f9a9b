"""How audio may look on the wire.

In: nothing. Out: the closed vocabularies of sample rates, encodings, transports and priorities. Does not
know: arrays, how audio is converted.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

SAMPLE_RATES_HZ: tuple[int, ...] = (8000, 16000, 22050, 24000, 44100, 48000)

Encoding = Literal["pcm16", "pcm32f"]
ENCODINGS: tuple[Encoding, ...] = ("pcm16", "pcm32f")
BYTES_PER_SAMPLE: dict[Encoding, int] = {"pcm16": 2, "pcm32f": 4}

Transport = Literal["binary", "json"]
PriorityName = Literal["low", "normal", "high"]


class Priority(IntEnum):
    """Lower speaks first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


PRIORITIES: dict[PriorityName, Priority] = {
    "high": Priority.HIGH,
    "normal": Priority.NORMAL,
    "low": Priority.LOW,
}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono PCM, little endian. ``sample_rate_hz`` is one of :data:`SAMPLE_RATES_HZ`."""

    sample_rate_hz: int = 24000
    encoding: Encoding = "pcm16"

    @property
    def bytes_per_sample(self) -> int:
        return BYTES_PER_SAMPLE[self.encoding]

    def duration_ms(self, samples: int) -> int:
        """Milliseconds that this many samples play, rounded to the nearest."""
        return round(samples * 1000 / self.sample_rate_hz)
