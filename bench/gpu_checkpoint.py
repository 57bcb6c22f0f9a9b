"""What all parts need: a checkpoint on local disk, a voice that is encoded, kernels that are compiled.

In: where they are to be. Out: they are there, and how long that took. Does not know: what is measured.
"""

import asyncio
import subprocess
import sys
import time

from bench.gpu_findings import SHORT, WRITTEN, Findings, Given, given
from bench.gpu_served import prepare, served
from bench.hearing import listen
from bench.processes import ROOT
from bench.spoken import LANGUAGE
from makima_tts.protocol import Start

# As the parts after it have; who has more brings no new sizes of kernels.
STREAMS = 256


def write_checkpoint(given: Given) -> None:
    """Published sizes; or, dry, the quick one of the tests."""
    if given.dry:
        from tests.checkpoints import write_ending_checkpoint  # noqa: PLC0415, the tests' own

        write_ending_checkpoint(given.checkpoint)
        return
    writer = [sys.executable, "-m", "tests.checkpoints", str(given.checkpoint), "--ends-with-text"]
    subprocess.run(writer, check=True, cwd=ROOT)


def measure(given: Given, findings: Findings) -> None:
    prepare(given.folder)
    began_s = time.monotonic()
    write_checkpoint(given)
    findings.add({"writing a checkpoint, s": time.monotonic() - began_s})
    (given.folder / WRITTEN).touch()
    with served(given, 2 if given.dry else STREAMS) as server:
        findings.add({"first start to ready, kernels compiled, s": server.start_s})
        heard = asyncio.run(listen(server.url, Start(language=LANGUAGE), "short", {"short": SHORT}))
        findings.add({"first TTFA, a voice encoded, ms": heard.ttfa_s and 1e3 * heard.ttfa_s})


if __name__ == "__main__":
    measure(*given(__doc__))
