"""What messages may say about audio and text, and the limits of a session."""

from dataclasses import dataclass
from typing import Literal, get_args

SAMPLE_RATES_HZ: tuple[int, ...] = (8000, 16000, 22050, 24000, 44100, 48000)

Encoding = Literal["pcm16", "pcm32f", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
_BYTES_PER_SAMPLE: dict[Encoding, int] = {"pcm16": 2, "pcm32f": 4, "mulaw": 1, "alaw": 1}
# G.711 is made for telephones: it has one rate.
_ONLY_RATE_HZ: dict[Encoding, int] = {"mulaw": 8000, "alaw": 8000}
_DEFAULT_RATE_HZ = 24000

Transport = Literal["binary", "json"]
# Whether cleaning removes marks of markdown.
TextCleaning = Literal["markdown", "plain"]
PriorityName = Literal["low", "normal", "high"]
# The earlier one speaks first.
PRIORITIES: tuple[PriorityName, ...] = ("high", "normal", "low")


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono: PCM, little endian, or G.711. ``sample_rate_hz`` is one of :data:`SAMPLE_RATES_HZ`.

    ``speed``: playback speed relative to the engine's audio, at the same pitch.
    """

    sample_rate_hz: int = _DEFAULT_RATE_HZ
    encoding: Encoding = "pcm16"
    speed: float = 1.0

    @property
    def bytes_per_sample(self) -> int:
        return _BYTES_PER_SAMPLE[self.encoding]

    def duration_ms(self, samples: int) -> int:
        """Playing time of this many samples in milliseconds, rounded to the nearest."""
        return round(samples * 1000 / self.sample_rate_hz)


def rate_of_encoding(encoding: Encoding, requested_hz: int | None) -> int:
    """The requested rate, or (None) the encoding's own. Raises ValueError if the encoding lacks it."""
    only_hz = _ONLY_RATE_HZ.get(encoding)
    if requested_hz is None:
        return only_hz or _DEFAULT_RATE_HZ
    if only_hz not in (None, requested_hz):
        raise ValueError(f"sampleRate must be {only_hz} with the encoding {encoding}; or leave it out")
    return requested_hz


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of sessions and routes. Text counts are Unicode code points after cleaning."""

    max_text_chars: int = 1000
    max_utterance_chars: int = 20_000
    max_queued_utterances: int = 32
    idle_timeout_ms: int = 120_000
    max_session_ms: int = 3_600_000
    max_text_stall_ms: int = 30_000
    utterance_timeout_ms: int = 30_000
    load_timeout_ms: int = 600_000
    # The protocol closes a session at its 20th invalid message.
    max_invalid_messages: int = 20
    # Late text of an ended utterance must be told from text for a new one.
    remembered_utterances: int = 1000
    # Audio sent ahead of the listener's clock is wasted device time if the listener leaves.
    max_ahead_ms: int = 20_000
    max_connections: int = 1000
    # The default of ``start.textCleaning``.
    text_cleaning: TextCleaning = "markdown"
