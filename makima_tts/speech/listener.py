"""The listener's clock: what has been heard of the audio that was delivered.

In: durations of delivered audio and the time. Out: seconds ahead, lateness. Does not know: where the time
comes from (it is passed in), what was delivered.

The model: a listener starts to play when the first sample arrives and plays without a pause until it runs
dry; each time it does, it waits for the next delivery. Judging gaps against this clock, rather than by the
time between chunks, is what tells a stutter from a long chunk.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class ListenerClock:
    """All times in seconds on one monotonic clock."""

    plays_until_s: float | None = None
    underruns: int = 0

    def deliver(self, duration_s: float, now_s: float) -> float:
        """Audio arrives. Returns its lateness: how long the listener has been dry (0 for the first)."""
        lateness_s = 0.0
        if self.plays_until_s is None:
            self.plays_until_s = now_s
        elif now_s > self.plays_until_s:
            lateness_s = now_s - self.plays_until_s
            self.underruns += 1
            self.plays_until_s = now_s
        self.plays_until_s += duration_s
        return lateness_s

    def ahead_s(self, now_s: float) -> float:
        """Seconds of delivered audio that the listener has not heard yet."""
        return 0.0 if self.plays_until_s is None else max(0.0, self.plays_until_s - now_s)

    def reset(self) -> None:
        """The listener threw away what it held (a cancel) or starts afresh."""
        self.plays_until_s = None
