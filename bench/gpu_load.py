"""Listeners who come at random, and as many as there is room for.

In: a server, an audience. Out: times to the first sound at each rate, sound made in a second. Does not know:
how many it could be.
"""

from bench.audience import Audience
from bench.gpu_findings import FIVE_SECONDS, SHORT, Findings, Given
from bench.gpu_served import audio_a_second, met
from bench.running_server import Server

RATES_HZ = (1, 10, 20)
STREAMS = 256
_DRY_STREAMS = 3
_TEXTS = {"five seconds": FIVE_SECONDS}
_DRY_TEXTS = {"short": SHORT}
# What is made before everybody speaks, and when the last fall silent, is not what is made at most.
_BEGINNING_S = 3.0
_END_S = 1.0


def _texts(given: Given) -> dict[str, str]:
    return _DRY_TEXTS if given.dry else _TEXTS


def measure_rates(server: Server, listeners: Audience, given: Given, findings: Findings) -> None:
    for rate_hz in RATES_HZ:
        duration_s = 0.3 if given.dry else 8.0 if rate_hz == 1 else 12.0
        heard = listeners.come(server.url, _texts(given), 10.0 if given.dry else rate_hz, duration_s)
        row = met(heard)
        findings.add_row("Listeners who come at random", {"a second": rate_hz, **row})
        for name in ("TTFA p50 ms", "TTFA p95 ms", "audible p95 ms", "underruns"):
            findings.add({f"{rate_hz} a second, {name}": row[name]})


def measure_most(server: Server, listeners: Audience, given: Given, findings: Findings, *, most: int) -> None:
    """``most``: how many there is room for."""
    streams = min(most, _DRY_STREAMS if given.dry else STREAMS)
    beginning_s, end_s, duration_s = (0.1, 0.1, 0.5) if given.dry else (_BEGINNING_S, _END_S, 12.0)
    heard = listeners.stay(server.url, _texts(given), streams, duration_s)
    findings.add_row("As many as there is room for", {"at any time": streams, **met(heard)})
    made = audio_a_second(heard, beginning_s, duration_s - end_s)
    findings.add({"audio seconds per second": made})
