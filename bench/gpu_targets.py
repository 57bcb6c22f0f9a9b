"""What was aimed at, and whether it is reached.

In: figures of all parts by name. Out: rows of a table. Does not know: how anything was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Target:
    """``name``: of the figure. ``bound``: it is to be so much at most, or at least."""

    what: str
    name: str
    bound: Literal["≤", "≥"]
    wanted: float

    def row(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        figure = figures.get(self.name)
        return {
            "what": self.what,
            "target": f"{self.bound} {self.wanted:g}",
            "figure": figure,
            "met": "not measured" if figure is None else "yes" if self._is_met(figure) else "NO",
        }

    def _is_met(self, figure: float) -> bool:
        return figure <= self.wanted if self.bound == "≤" else figure >= self.wanted


# Of one H200 with the 0.6B and a voice that was encoded before, at the client.
TARGETS = (
    Target("TTFA, one stream, p95, ms", "one stream, TTFA p95 ms", "≤", 15),
    Target("TTFA, 10 requests a second, p95, ms", "10 a second, TTFA p95 ms", "≤", 25),
    Target("underruns, 10 requests a second", "10 a second, underruns", "≤", 0),
    Target("TTFA, 20 requests a second, p95, ms", "20 a second, TTFA p95 ms", "≤", 40),
    Target("underruns, 20 requests a second", "20 a second, underruns", "≤", 0),
    Target("live streams for a minute without an underrun", "live streams", "≥", 256),
    Target("audio seconds per second", "audio seconds per second", "≥", 450),
    Target("a frame of each, batch 1, ms", "frame of each, batch 1, ms", "≤", 5),
    Target("a frame of each, batch 32, ms", "frame of each, batch 32, ms", "≤", 8),
    Target("a frame of each, batch 128, ms", "frame of each, batch 128, ms", "≤", 14),
    Target("a frame of each, batch 256, ms", "frame of each, batch 256, ms", "≤", 25),
    Target("cancel to a free place, steps", "cancel to a free place, steps", "≤", 1),
    Target("start to ready, s", "start to ready, s", "≤", 20),
    Target("short phrase, first to last byte, ms", "short phrase, first to last byte, p50 ms", "≤", 150),
    Target("memory with 8 streams, GB", "memory, 8 streams, GB", "≤", 4),
)
# Beside the targets, in the order in which they are shown.
_BESIDE = (
    "GPU tests, passed",
    "GPU tests, failed",
    "GPU tests, skipped",
    "GPU tests, not ended",
    "kernel tests, passed",
    "kernel tests, failed",
    "kernel tests, skipped",
    "kernel tests, not ended",
    "1 a second, TTFA p95 ms",
    "1 a second, underruns",
    "live streams, short tries",
    "cancel to a free place, ms",
    "cancel to another's turn, ms",
    "disconnect to another's turn, ms",
    "start to ready, one place, s",
    "text to first chunk, ms",
    "writing a checkpoint, s",
    "peer",
    "peer, not measured",
    "peer, loading, s",
    "peer, chunks of 1, TTFA p95 ms",
    "peer, chunks of 1, RTF p50",
    "peer, chunks of 12, RTF p50",
)


def target_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [target.row(figures) for target in TARGETS]


def other_rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of them that were measured."""
    return [{"what": name, "figure": figures[name]} for name in _BESIDE if figures.get(name) is not None]
