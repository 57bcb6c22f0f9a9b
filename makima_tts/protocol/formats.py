"""How audio may look on the wire.

In: nothing. Out: the closed vocabularies of sample rates, encodings, transports and priorities. Does not
know: arrays, how audio is converted.
"""

from dataclasses import dataclass
from typing import Literal

SAMPLE_RATES_HZ: tuple[int, ...] = (8000, 16000, 22050, 24000, 44100, 48000)

Encoding = Literal["pcm16", "pcm32f", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = ("pcm16", "pcm32f", "mulaw", "alaw")
BYTES_PER_SAMPLE: dict[Encoding, int] = {"pcm16": 2, "pcm32f": 4, "mulaw": 1, "alaw": 1}
# G.711 is of telephones: it has one rate.
_ONLY_RATE_HZ: dict[Encoding, int] = {"mulaw": 8000, "alaw": 8000}
_DEFAULT_RATE_HZ = 24000

MIN_SPEED = 0.5
MAX_SPEED = 2.0

Transport = Literal["binary", "json"]
# Whether marks of markdown are left out of what is spoken.
TextCleaning = Literal["markdown", "plain"]
PriorityName = Literal["low", "normal", "high"]
# The earlier one speaks first.
PRIORITIES: tuple[PriorityName, ...] = ("high", "normal", "low")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono: PCM, little endian, or G.711. ``sample_rate_hz`` is one of :data:`SAMPLE_RATES_HZ`.

    ``speed``: how many times as fast it is spoken as the engine would, at the same pitch.
    """

    sample_rate_hz: int = _DEFAULT_RATE_HZ
    encoding: Encoding = "pcm16"
    speed: float = 1.0

    @property
    def bytes_per_sample(self) -> int:
        return BYTES_PER_SAMPLE[self.encoding]

    def duration_ms(self, samples: int) -> int:
        """Milliseconds that this many samples play, rounded to the nearest."""
        return round(samples * 1000 / self.sample_rate_hz)


def rate_of_encoding(encoding: Encoding, asked_hz: int | None) -> int:
    """The rate asked for, or (None) the encoding's own. Raises ValueError where the encoding has it not."""
    only_hz = _ONLY_RATE_HZ.get(encoding)
    if asked_hz is None:
        return only_hz or _DEFAULT_RATE_HZ
    if only_hz not in (None, asked_hz):
        raise ValueError(f"sampleRate must be {only_hz} with the encoding {encoding}; or leave it out")
    return asked_hz
