"""A server as the GPU's measurements start it, and what its listeners met.

In: what a part was given, how many utterances at once. Out: a server that is ready; rows of tables. Does not
know: which part asks.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.gpu_findings import TRANSCRIPT, Given
from bench.hearing import Heard
from bench.report import percentiles
from bench.running_server import Choice, Server, serving
from bench.voices import write_voice

_HOME = "home"


def prepare(folder: Path) -> None:
    """The voice that speaks in all parts; the first server encodes it, the others find it encoded."""
    write_voice(folder / _HOME / "voices", transcript=TRANSCRIPT)


def served(given: Given, streams: int) -> AbstractContextManager[Server]:
    choice = Choice(
        given.checkpoint, given.precision, given.device, threads=1 if given.dry else None, streams=streams
    )
    return serving(choice, given.folder / _HOME)


def met(heard: Sequence[Heard]) -> dict[str, Any]:
    """A row: times to the first sound, what was late, what went wrong."""
    ttfa_ms = [each.ttfa_s * 1e3 for each in heard if each.ttfa_s is not None]
    audible_ms = [each.audible_s * 1e3 for each in heard if each.audible_s is not None]
    late_ms = [late_s * 1e3 for each in heard for late_s in each.lateness_s if late_s > 0]
    return {
        "listeners": len(heard),
        "errors": errors(heard),
        **{f"TTFA {rank} ms": value for rank, value in percentiles(ttfa_ms, 50, 95, 100).items()},
        **{f"audible {rank} ms": value for rank, value in percentiles(audible_ms, 50, 95).items()},
        "underruns": len(late_ms),
        "longest gap, ms": max(late_ms, default=0.0),
        "audio p50 s": percentiles([each.audio_s for each in heard], 50)["p50"],
        "RTF p50": percentiles([each.rtf for each in heard if each.rtf is not None], 50)["p50"],
    }


def errors(heard: Sequence[Heard]) -> int:
    return sum(each.error is not None for each in heard)


def is_clean(heard: Sequence[Heard]) -> bool:
    """Nobody heard a gap, and nobody was sent away."""
    return bool(heard) and not any(each.underruns or each.error for each in heard)


def audio_a_second(heard: Sequence[Heard], from_s: float, until_s: float) -> float:
    """Seconds of sound that arrived in each second, of those between two after the first arrival."""
    arrivals = [arrival for each in heard for arrival in each.arrivals]
    first_s = min((at_s for at_s, _ in arrivals), default=0.0)
    within = (took_s for at_s, took_s in arrivals if from_s <= at_s - first_s < until_s)
    return sum(within) / (until_s - from_s)
