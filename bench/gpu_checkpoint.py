"""What all parts need: a checkpoint on local disk, and a voice.

In: where they are to be. Out: they are there, and how long that took. Does not know: what is measured.
"""

import subprocess
import sys
import time

from bench.gpu_findings import Findings, Given, given
from bench.gpu_served import prepare
from bench.processes import ROOT


def write_checkpoint(given: Given) -> None:
    """Published sizes; or, dry, the quick one of the tests."""
    if given.dry:
        from tests.ending_checkpoint import write_ending_checkpoint  # noqa: PLC0415, the tests' own

        write_ending_checkpoint(given.checkpoint)
        return
    writer = [sys.executable, "-m", "bench.make_checkpoint", str(given.checkpoint), "--ends-with-text"]
    subprocess.run(writer, check=True, cwd=ROOT)


def measure(given: Given, findings: Findings) -> None:
    prepare(given.folder)
    began_s = time.monotonic()
    write_checkpoint(given)
    findings.add({"writing a checkpoint, s": time.monotonic() - began_s})


if __name__ == "__main__":
    measure(*given(__doc__))
