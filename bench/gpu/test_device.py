"""The model on the device, without a server: time by batch, a profile, the errors of bf16."""

import argparse
import time
from statistics import median
from typing import TextIO

import torch

from bench import precision
from bench.gpu.plugin import Part, Results
from bench.gpu.report import CHECKPOINT_WRITTEN
from bench.ours import WARM_UP_FRAMES, Ours, Utterances, profiled, top
from bench.sides import CHUNK_FRAMES

# Some are one more than a bucket of CUDA graphs holds, which then is padded.
BATCHES = (1, 2, 3, 8, 16, 32, 33, 64, 128, 129, 256)
PROFILED_BATCHES = (1, 32, 128)
_TOP_KERNELS = 12
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def _ours(part: Part, slots: int) -> Ours:
    options = {"checkpoint": part.checkpoint, "device": part.device, "precision": part.precision}
    ours = Ours(argparse.Namespace(**options, slots=slots, frames=WARM_UP_FRAMES))
    ours.measure("warm-up", 1)
    return ours


def _warm_batch(ours: Ours, batch: int) -> Utterances:
    utterances = ours.fill(batch)
    ours.speak(utterances, WARM_UP_FRAMES)
    return utterances


def _batch_times(ours: Ours, batch: int, frames: int) -> dict[str, float]:
    utterances = _warm_batch(ours, batch)
    began_ms = ours.clock.now_ms()
    steps_ms = ours.speak(utterances, frames)
    took_ms = ours.clock.now_ms() - began_ms
    chunks_ms = [ours.decode_ms(batch) for _ in range(3)]
    return {
        # The total by the number of frames: a step may return before the device has finished it.
        "frame of each, ms": took_ms / frames,
        "median, ms": median(steps_ms),
        "longest, ms": max(steps_ms),
        "codec, a frame of 12 at once, ms": median(chunks_ms[1:]) / CHUNK_FRAMES,
    }


@torch.inference_mode()
def test_steps(prepared: Part, results: Results) -> None:
    batches, frames = ((1, 2), 2) if prepared.dry else (BATCHES, 40)
    ours = _ours(prepared, max(batches))
    for batch in batches:
        times = _batch_times(ours, batch, frames)
        reserved_gb = torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else None
        results.add_row("A frame of each, by batch", {"batch": batch, **times, "reserved, GB": reserved_gb})
        results.add({f"frame of each, batch {batch}, ms": times["frame of each, ms"]})
    for rows in (25, 100):
        took_ms = [ours.measure("prefill", rows)["prefill, ms"] for _ in range(3)]
        results.add({f"prefill, {rows} rows, ms": min(took_ms)})
    first = [ours.measure("first", 1)["text to first chunk, ms"] for _ in range(1 if prepared.dry else 10)]
    results.add({"text to first chunk, ms": sorted(first)[len(first) // 2]})
    results.add({**ours.measure("memory", 1)})
    results.add({**ours.measure("engine", 1)})


@torch.inference_mode()
def test_profile(prepared: Part, results: Results) -> None:
    """Launches, copies and waits in a frame, the device's share of its time, the longest kernels."""
    batches, frames = ((1,), 2) if prepared.dry else (PROFILED_BATCHES, 8)
    ours = _ours(prepared, max(batches))
    with (prepared.folder / "profile.txt").open("w") as text:
        for batch in batches:
            _profile(ours, batch, frames, results, text)


def _profile(ours: Ours, batch: int, frames: int, results: Results, text: TextIO) -> None:
    utterances = _warm_batch(ours, batch)
    began_s = time.perf_counter()
    ours.speak(utterances, frames)
    ours.clock.now_ms()
    frame_ms = (time.perf_counter() - began_s) * 1e3 / frames
    utterances = _warm_batch(ours, batch)
    events = profiled(lambda: (ours.speak(utterances, frames), ours.clock.now_ms()))
    # On a CPU, operators stand in for kernels.
    kernels = [each for each in events if each.device_type.name == "CUDA"]
    device_ms = sum(each.self_device_time_total for each in kernels) / 1e3 / frames

    def per_frame(*names: str) -> float:
        calls: int = sum(each.count for each in events if each.key in names)
        return calls / frames

    figures = {
        "batch": batch,
        "frame, ms": frame_ms,
        "device works, ms": device_ms,
        "device's share": device_ms / frame_ms,
        "kernels": sum(each.count for each in kernels) / frames,
        "launches": per_frame(*_LAUNCHES),
        "graph launches": per_frame("cudaGraphLaunch"),
        "copies": per_frame("cudaMemcpyAsync"),
        "waits": per_frame(*_WAITS),
    }
    results.add_row("Profile of a frame, by batch", figures)
    for name, ms, calls in top(kernels or events, _TOP_KERNELS):
        row = {
            "batch": batch,
            "kernel": name[:90],
            "ms a frame": ms / frames,
            "times a frame": calls / frames,
        }
        results.add_row("Kernels that take most", row)
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    shown = events.table(sort_by=order, row_limit=40, max_name_column_width=90)
    print(f"batch {batch}, {frames} frames\n{shown}", file=text, flush=True)


def test_precision(part: Part, results: Results) -> None:
    """bf16 on the device beside fp32 on the CPU. Begins when the checkpoint, written meanwhile, is there."""
    while not (part.folder / CHECKPOINT_WRITTEN).exists():
        assert time.monotonic() < part.until_s, "there is no checkpoint"
        time.sleep(0.2)
    frames = 3 if part.dry else 24
    for row in precision.compare(part.checkpoint, part.device, frames, ["bf16"]):
        results.add_row("bf16 beside fp32 on a CPU, the same codes dictated", row)
