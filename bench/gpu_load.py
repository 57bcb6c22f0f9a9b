"""Listeners who come at random, and as many as there is room for.

In: a checkpoint. Out: times to the first sound at each rate, sound made in a second. Does not know: how many
it could be.
"""

from bench.audience import Audience, audience
from bench.gpu_findings import FIVE_SECONDS, Findings, Given, given
from bench.gpu_served import audio_a_second, met, served
from bench.running_server import Server

RATES_HZ = (1, 10, 20)
STREAMS = 256
_TEXTS = {"five seconds": FIVE_SECONDS}
# What is made before everybody speaks, and when the last fall silent, is not what is made at most.
_BEGINNING_S = 3.0
_END_S = 1.0


def _measure_rates(server: Server, listeners: Audience, given: Given, findings: Findings) -> None:
    for rate_hz in RATES_HZ:
        duration_s = 0.3 if given.dry else 8.0 if rate_hz == 1 else 12.0
        heard = listeners.come(server.url, _TEXTS, 10.0 if given.dry else rate_hz, duration_s)
        row = met(heard)
        findings.add_row("Listeners who come at random", {"a second": rate_hz, **row})
        for name in ("TTFA p50 ms", "TTFA p95 ms", "audible p95 ms", "underruns"):
            findings.add({f"{rate_hz} a second, {name}": row[name]})


def _measure_most(
    server: Server, listeners: Audience, streams: int, given: Given, findings: Findings
) -> None:
    beginning_s, end_s, duration_s = (0.1, 0.1, 0.5) if given.dry else (_BEGINNING_S, _END_S, 12.0)
    heard = listeners.stay(server.url, _TEXTS, streams, duration_s)
    findings.add_row("As many as there is room for", {"at any time": streams, **met(heard)})
    made = audio_a_second(heard, beginning_s, duration_s - end_s)
    findings.add({"audio seconds per second": made})


def measure(given: Given, findings: Findings) -> None:
    streams, processes = (3, 1) if given.dry else (STREAMS, 6)
    with served(given, streams) as server, audience(processes) as listeners:
        findings.add({f"start to ready, {streams} places, s": server.start_s})
        _measure_rates(server, listeners, given, findings)
        _measure_most(server, listeners, streams, given, findings)


if __name__ == "__main__":
    measure(*given(__doc__))
