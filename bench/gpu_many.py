"""Many listeners, of a server with as many places as the card has memory for.

In: a checkpoint, the seconds that there are. Out: what came of each of those measurements. Does not know: how
they are made.
"""

import time

from bench.audience import audience
from bench.gpu_findings import Findings, Given, given
from bench.gpu_live import measure_live
from bench.gpu_load import measure_most, measure_rates
from bench.gpu_machine import total_gb
from bench.gpu_served import served

_MOST = 512
# What a stream may take of the card, and the share of it that all of them may.
_STREAM_GB = 0.2
_SHARE = 0.7
_PROCESSES = 8


def places(given: Given) -> int:
    """As far as can be guessed."""
    if given.dry:
        return 4
    return min(_MOST, int(_SHARE * (total_gb() or 80.0) / _STREAM_GB / 32) * 32)


def measure(given: Given, findings: Findings) -> None:
    until_s = time.monotonic() + given.seconds
    most = places(given)
    findings.add({"places": float(most)})
    with served(given, most) as server, audience(1 if given.dry else _PROCESSES) as listeners:
        findings.add({"start to ready, all places, s": server.start_s})
        measure_rates(server, listeners, given, findings)
        measure_most(server, listeners, given, findings, most=most)
        measure_live(server, listeners, given, findings, most=most, until_s=until_s)


if __name__ == "__main__":
    measure(*given(__doc__))
