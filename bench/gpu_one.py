"""One listener at a time, and then eight, of a server with the default number of places.

In: a checkpoint. Out: how soon the server is ready, times to the first sound and to the last, memory. Does
not know: targets.
"""

import asyncio
from collections.abc import Sequence

from bench.audience import audience
from bench.gpu_findings import FIVE_SECONDS, SHORT, Findings, Given, given
from bench.gpu_machine import taken_gb
from bench.gpu_served import met, served
from bench.hearing import Heard, listen
from bench.report import percentiles
from bench.running_server import Server
from bench.spoken import LANGUAGE
from makima_tts.protocol import Start

STREAMS = 8
_TEXTS = {"five seconds": FIVE_SECONDS, "short": SHORT}


def _alone(server: Server, text: str, times: int) -> list[Heard]:
    """One after the other."""

    async def listeners() -> list[Heard]:
        return [await listen(server.url, Start(language=LANGUAGE), text, _TEXTS) for _ in range(times)]

    return asyncio.run(listeners())


def _first_to_last(heard: Sequence[Heard]) -> dict[str, float | None]:
    between_ms = [each.first_to_last_s * 1e3 for each in heard if each.first_to_last_s is not None]
    return {
        f"short phrase, first to last byte, {rank} ms": value
        for rank, value in percentiles(between_ms, 50, 95).items()
    }


def _measure_alone(server: Server, given: Given, findings: Findings) -> None:
    first = _alone(server, "five seconds", 1)
    findings.add_row("One listener", {"who": "the first of all, five seconds", **met(first)})
    heard = _alone(server, "five seconds", 1 if given.dry else 40)
    row = met(heard)
    findings.add_row("One listener", {"who": "five seconds", **row})
    findings.add({f"one stream, {name}": row[name] for name in ("TTFA p50 ms", "TTFA p95 ms")})
    short = _alone(server, "short", 1 if given.dry else 12)
    findings.add_row("One listener", {"who": "a short phrase", **met(short)})
    findings.add(_first_to_last(short))


def _measure_together(server: Server, given: Given, findings: Findings, before_gb: float | None) -> None:
    texts = {"short": SHORT} if given.dry else {"five seconds": FIVE_SECONDS}
    with audience(1) as listeners:
        heard = listeners.stay(server.url, texts, STREAMS, 0.2 if given.dry else 4.0, spread_s=0.1)
    findings.add_row("One listener", {"who": f"{STREAMS} at any time", **met(heard)})
    findings.add(
        {
            f"memory, {STREAMS} streams, GB": _since(before_gb),
            "memory of the server's process, at most, GB": server.resident_mib(peak=True) * 2**20 / 1e9,
        }
    )


def _since(before_gb: float | None) -> float | None:
    """What is taken of the card by now; its allocator gives nothing back."""
    now_gb = taken_gb()
    return None if now_gb is None or before_gb is None else now_gb - before_gb


def measure(given: Given, findings: Findings) -> None:
    before_gb = taken_gb()
    with served(given, STREAMS) as server:
        findings.add({"start to ready, s": server.start_s, "memory when ready, GB": _since(before_gb)})
        _measure_alone(server, given, findings)
        _measure_together(server, given, findings, before_gb)


if __name__ == "__main__":
    measure(*given(__doc__))
