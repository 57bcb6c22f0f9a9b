"""What the device does in a frame, and whether it waits for the host.

In: a checkpoint. Out: launches a frame, the device's share of the time, the kernels that take most; as a text
with more of them. Does not know: what the kernels are for.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu_batches import Batches
from bench.gpu_findings import Findings, Given, given

BATCHES = (1, 32, 128)
_FRAMES = 8
_TOP = 12
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


class Profile:
    """Of some frames of a batch. On a CPU, operators stand in for kernels."""

    def __init__(self, speakers: Batches, batch: int, frames: int) -> None:
        self._frames = frames
        speakers.fill(batch)
        began_s = time.perf_counter()
        speakers.speak(frames)
        self.frame_ms = (time.perf_counter() - began_s) * 1e3 / frames
        speakers.fill(batch)
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as self._profiled:
            speakers.speak(frames)
        self._events: Sequence[Any] = self._profiled.key_averages()

    def figures(self) -> dict[str, float]:
        """``share``: of an unprofiled frame's time, in which the device worked."""
        device_ms = sum(each.self_device_time_total for each in self._kernels()) / 1e3 / self._frames
        return {
            "frame, ms": self.frame_ms,
            "device works, ms": device_ms,
            "device's share": device_ms / self.frame_ms,
            "kernels": sum(each.count for each in self._kernels()) / self._frames,
            "launches": self._count(*_LAUNCHES),
            "graph launches": self._count("cudaGraphLaunch"),
            "copies": self._count("cudaMemcpyAsync"),
            "waits": self._count("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
        }

    def top(self) -> list[tuple[str, float, float]]:
        """Name, milliseconds a frame, how often a frame."""
        events = self._kernels() or self._events
        own_us = {each.key: float(each.self_device_time_total or each.self_cpu_time_total) for each in events}
        often = {each.key: each.count / self._frames for each in events}
        most = sorted(own_us, key=lambda name: -own_us[name])[:_TOP]
        return [(name, own_us[name] / 1e3 / self._frames, often[name]) for name in most]

    def text(self) -> str:
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        averages: Any = self._events
        return str(averages.table(sort_by=order, row_limit=40, max_name_column_width=90))

    def _kernels(self) -> list[Any]:
        return [each for each in self._events if each.device_type.name == "CUDA"]

    def _count(self, *names: str) -> float:
        times: int = sum(each.count for each in self._events if each.key in names)
        return times / self._frames


@torch.inference_mode()
def measure(given: Given, findings: Findings) -> None:
    batches, frames = ((1,), 2) if given.dry else (BATCHES, _FRAMES)
    speakers = Batches(given, max(batches))
    with (given.folder / "profile.txt").open("w") as written:
        for batch in batches:
            profiled = Profile(speakers, batch, frames)
            findings.add_row("Profile of a frame, by batch", {"batch": batch, **profiled.figures()})
            for name, ms, often in profiled.top():
                row = {"batch": batch, "kernel": name[:90], "ms a frame": ms, "times a frame": often}
                findings.add_row("Kernels that take most", row)
            written.write(f"batch {batch}, {frames} frames\n{profiled.text()}\n")
            written.flush()


if __name__ == "__main__":
    measure(*given(__doc__))
