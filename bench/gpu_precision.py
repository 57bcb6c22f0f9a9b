"""What bf16 on the GPU changes: the same codes, read there and in fp32 on the CPU.

In: a checkpoint. Out: how far logits lie apart, how often both would choose the same, the codec's noise. Does
not know: how fast anything is. It runs beside tests, which nobody times.
"""

import time

from bench import precision
from bench.gpu_findings import WRITTEN, Findings, Given, given

_FRAMES = 24
_POLL_S = 0.2


def measure(given: Given, findings: Findings) -> None:
    until_s = time.monotonic() + given.seconds
    while not (given.folder / WRITTEN).exists() and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    frames = 3 if given.dry else _FRAMES
    for row in precision.compare(given.checkpoint, given.device, frames, ["bf16"]):
        findings.add_row("bf16 beside fp32 on a CPU, the same codes dictated", row)


if __name__ == "__main__":
    measure(*given(__doc__))
