"""A frame of each of so many utterances, and how many steps a cancel takes to free a place.

In: a checkpoint. Out: milliseconds by batch, steps, memory. Does not know: sockets, targets.
"""

import torch

from bench.gpu_batches import Batches
from bench.gpu_findings import Findings, Given, given

# Some are one more than a bucket holds, and so filled up.
BATCHES = (1, 2, 3, 8, 16, 32, 33, 64, 128, 129, 256)
_FRAMES = 40


def memory_gb() -> float | None:
    """What torch has taken of the device, at most; None on a CPU."""
    return torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else None


@torch.inference_mode()
def measure(given: Given, findings: Findings) -> None:
    batches, frames = ((1, 2), 2) if given.dry else (BATCHES, _FRAMES)
    speakers = Batches(given, max(batches))
    for batch in batches:
        times = speakers.times(batch, frames)
        findings.add_row("A frame of each, by batch", {"batch": batch, **times, "reserved, GB": memory_gb()})
        findings.add({f"frame of each, batch {batch}, ms": times["frame of each, ms"]})
    for rows in (25, 100):
        took = [speakers.measure("prefill", rows)["prefill, ms"] for _ in range(3)]
        findings.add({f"prefill, {rows} rows, ms": min(took)})
    first = [speakers.measure("first", 1)["text to first chunk, ms"] for _ in range(1 if given.dry else 10)]
    findings.add({"text to first chunk, ms": sorted(first)[len(first) // 2]})
    findings.add({**speakers.measure("memory", 1)})
    findings.add({**speakers.measure("engine", 1)})


if __name__ == "__main__":
    measure(*given(__doc__))
