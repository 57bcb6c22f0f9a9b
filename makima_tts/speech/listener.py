"""The listener's clock: what of the delivered audio was played, and how late the next comes."""

from dataclasses import dataclass


@dataclass(slots=True)
class ListenerClock:
    """All times in seconds on one monotonic clock, whose time is an argument.

    The model: playback starts with the first sample and goes on without a pause until it runs dry; then it
    waits for the next delivery. Gaps are judged against this clock rather than by the time between chunks:
    that distinguishes a stutter from a long chunk.
    """

    plays_until_s: float | None = None
    underruns: int = 0

    def deliver(self, duration_s: float, now_s: float) -> float:
        """Audio arrives. Returns its lateness: for how long playback had run dry (0 for the first)."""
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
        """Seconds of delivered audio that were not played yet."""
        return 0.0 if self.plays_until_s is None else max(0.0, self.plays_until_s - now_s)

    def reset(self) -> None:
        """Buffered audio was dropped (a cancel), or playback starts again."""
        self.plays_until_s = None
