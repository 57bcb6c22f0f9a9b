"""A sound card whose clock the test advances.

In: turns. Out: what was played in them. Does not know: who fills it.
"""

from makima_tts.client.playing import Fill
from makima_tts.protocol import AudioFormat


class HandTurnedCard:
    """Pass ``open`` to a Player. ``latency_s``: from its request to playback."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.time_s = 100.0
        self.closed = False

    def open(self, audio_format: AudioFormat, fill: Fill) -> "HandTurnedCard":
        self._fill = fill
        self._bytes_per_s = audio_format.sample_rate_hz * audio_format.bytes_per_sample
        return self

    def turn(self, size_bytes: int) -> bytes:
        """Request this much, and advance the clock by its duration."""
        buffer = bytearray(size_bytes)
        self._fill(memoryview(buffer), self.latency_s)
        self.time_s += size_bytes / self._bytes_per_s
        return bytes(buffer)

    def close(self) -> None:
        self.closed = True
