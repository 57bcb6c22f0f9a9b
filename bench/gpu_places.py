"""How soon a place is free, seen from outside.

In: a checkpoint. Out: milliseconds from a cancel, or a socket that is gone, to another's turn; how soon a
server with one place is ready. Does not know: steps.
"""

import asyncio

from bench.gpu_findings import FIVE_SECONDS, Findings, Given, given
from bench.gpu_served import served
from bench.interruptions import places_taken_ms


def measure(given: Given, findings: Findings) -> None:
    with served(given, 1) as server:
        findings.add({"start to ready, one place, s": server.start_s})
        findings.add(asyncio.run(places_taken_ms(server.url, FIVE_SECONDS, 1 if given.dry else 7)))


if __name__ == "__main__":
    measure(*given(__doc__))
