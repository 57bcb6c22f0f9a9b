"""Tests our kernels on the card where a model is loaded, and replaces those that fail there.

In: a checkpoint, a device, tables of leaves. Out: one table of leaves that work there; the verdict, on disk.
Does not know: utterances, the engine's graphs.

Each family computes fixed inputs of the model's sizes, in batches of several row counts, and torch's leaf the
same. A leaf that raises, that differs by more than its tolerance, or whose rows depend on their batch, is
replaced. A leaf that is only slow is replaced only by one that keeps the law of the batch (ADR 6).
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Annotated

import structlog
import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from makima_tts.errors import TtsUnavailable
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.devices import is_out_of_memory
from makima_tts.model.native.compiler import cache_folder
from makima_tts.model.ops.fixed_inputs import FixedInputs, Run
from makima_tts.model.ops.table import Ops, torch_ops, triton_ops
from makima_tts.model.ops.torch import torch_attention

# Work → milliseconds.
Clock = Callable[[Callable[[], object]], float]

_FEW_ROWS = 5
# Ours must be slower by more than this in every one of the repetitions.
_SLOWER, _REPETITIONS = 1.2, 3
# Of work that is timed in a CUDA graph.
_REPLAYS, _CALLS_A_REPLAY = 10, 20
_MAX_MESSAGE_CHARS = 300
_DRIVER = Path("/proc/driver/nvidia/version")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Family:
    """``rows``: of the largest batch. ``bf16`` and ``fp32``: tolerances.

    An error is the largest difference as a share of torch's largest number; of codes, samples of 16 bits and
    flags it is the share that differs.
    """

    name: str
    prepare: Callable[[FixedInputs, Ops, int], Run]
    rows: int
    bf16: float
    fp32: float


# In fp32 only the order of sums differs: some 1e-6, and 1e-4 in the codec after all its layers. A rounding to
# bf16 is an error of 0.4 % at most. Batches have more rows than a kernel has in one block (64).
ATTENTION = Family("attention", FixedInputs.attention, 32, 0.02, 1e-3)  # weights and result are rounded
OTHERS = (
    Family("layers", FixedInputs.layers, 80, 0.05, 1e-3),  # torch also rounds the residual stream; ten in all
    Family("linear", FixedInputs.linear, 80, 0.01, 1e-3),  # the result is rounded
    Family("logits", FixedInputs.logits, 80, 0.01, 1e-3),  # torch's are rounded
    # The inputs are float32 in any case. A draw beside the boundary of two codes may go either way, and so
    # may a sample beside half a step.
    Family("sampler", FixedInputs.sampler, 80, 0.01, 0.01),
    Family("codec", FixedInputs.codec, 16, 0.15, 1e-3),  # some hundred roundings: 36 dB, docs/benchmarks.md
    Family("finish", FixedInputs.finish, 80, 0.01, 0.01),
)


class Verdict(BaseModel):
    """``times_ms``: by family, of ours and of the leaf that it was compared with."""

    versions: dict[str, str]
    implementations: dict[str, str]
    times_ms: dict[str, dict[str, Annotated[float, Field(gt=0)]]]


@torch.inference_mode()
def select_ops(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    tables: Mapping[str, Ops] | None = None,
    clock: Clock | None = None,
) -> Ops:
    """``tables``: by whose attention they have, ours first, torch's last; None: all that are installed.

    Correctness is tested every time, which takes a second or two; what is slow is read from disk if it was
    measured before. Raises what means that the device is lost or out of memory.
    """
    started_s, versions = time.monotonic(), versions_of(device, dtype)
    stored = stored_verdict(versions)
    times_ms = {} if stored is None else dict(stored.times_ms)
    test = _SelfTest(FixedInputs(checkpoint, device, dtype), times_ms, clock or replayed_ms)
    tables = tables or _installed(dtype)
    ops, in_torch = tables[test.select(ATTENTION, tables)], torch_ops()
    pair = {"triton": ops, "torch": in_torch}
    replaced = [family.name for family in OTHERS if test.select(family, pair) == "torch"]
    attention = ["attention"] if "layers" in replaced else []  # layers of torch have their own
    leaves = {name: getattr(in_torch, name) for name in replaced + attention}
    implementations = {**ops.implementations, **dict.fromkeys(leaves, "torch")}
    verdict = Verdict(versions=versions, implementations=implementations, times_ms=test.times_ms)
    if verdict != stored:
        _keep(verdict)
    _log.info("kernels_tested", duration_s=time.monotonic() - started_s, **implementations)
    return replace(ops, implementations=implementations, **leaves)


def _installed(dtype: torch.dtype) -> dict[str, Ops]:
    from makima_tts.model.triton.attention import installed_attentions  # noqa: PLC0415 - needs Triton

    attentions = {**installed_attentions(dtype), "torch": torch_attention}
    return {by: triton_ops(attention, by) for by, attention in attentions.items()}


@dataclass(frozen=True, slots=True)
class _SelfTest:
    """``times_ms``: what was measured, see Verdict; more is added."""

    inputs: FixedInputs
    times_ms: dict[str, dict[str, float]]
    clock: Clock

    def select(self, family: Family, tables: Mapping[str, Ops]) -> str:
        """The first table unless its leaf fails or is slow; the name of another is logged."""
        ours, *others = tables
        fault = self._fault(family, tables, ours)
        lawful = [name for name in others if self._keeps_law(name) and not self._fault(family, tables, name)]
        if fault is None and lawful:
            fault = self._slowness(family, {name: tables[name] for name in (ours, lawful[0])})
        if fault is None:
            return ours
        used = lawful[0] if lawful else "torch"
        _log.warning(
            "kernel_replaced", family=family.name, implementation=used, batch_invariant=bool(lawful), **fault
        )
        return used

    def _keeps_law(self, name: str) -> bool:
        """On CUDA cuBLAS and torch's scans and reductions choose an order of sums by the number of rows."""
        return name != "torch" or self.inputs.device.type == "cpu"

    def _fault(self, family: Family, tables: Mapping[str, Ops], name: str) -> dict[str, object] | None:
        """What is wrong with a leaf, for the log."""
        batches = [slice(0, count) for count in (1, _FEW_ROWS, family.rows)]
        reference = family.prepare(self.inputs, tables["torch"], family.rows)
        expected = [reference(batch) for batch in batches]
        try:
            run = family.prepare(self.inputs, tables[name], family.rows)
            results = [run(batch) for batch in batches]
            pairs = [pair for each in zip(results, expected, strict=True) for pair in zip(*each, strict=True)]
            max_error = max(_error(*pair) for pair in pairs)
            last = run(slice(family.rows - 1, family.rows))
            alone = all(_same(result, results[0], slice(0, 1)) for result in results)
            alone = alone and _same(results[-1], last, slice(-1, None))
            alone = alone or not self._keeps_law(tables[name].implementations["attention"])
        except Exception as error:  # compilers and drivers raise anything
            self._raise_if_fatal(error)
            return {
                "reason": "raised",
                "error": type(error).__name__,
                "message": str(error)[:_MAX_MESSAGE_CHARS],
            }
        tolerance = family.bf16 if self.inputs.dtype == torch.bfloat16 else family.fp32
        if max_error <= tolerance and alone:
            return None
        return {"reason": "disagrees", "max_error": max_error, "tolerance": tolerance, "same_alone": alone}

    def _slowness(self, family: Family, pair: Mapping[str, Ops]) -> dict[str, object] | None:
        ours, other = pair
        times_ms = self.times_ms.get(family.name, {})
        if set(times_ms) != set(pair):
            try:
                times_ms = self._measure(family, pair)
            except Exception as error:  # as above; a leaf that works is kept
                self._raise_if_fatal(error)
                return None
            self.times_ms[family.name] = times_ms
        slow = times_ms[ours] > _SLOWER * times_ms[other]
        return {"reason": "slower", "times_ms": times_ms} if slow else None

    def _measure(self, family: Family, pair: Mapping[str, Ops]) -> dict[str, float]:
        """The shortest of our times and the longest of the other's."""
        ours, other = (family.prepare(self.inputs, ops, family.rows) for ops in pair.values())
        batch = slice(0, family.rows)
        runs = [partial(ours, batch), partial(other, batch)] * _REPETITIONS
        times_ms = [self.clock(run) for run in runs]
        return dict(zip(pair, (min(times_ms[::2]), max(times_ms[1::2])), strict=True))

    def _raise_if_fatal(self, error: Exception) -> None:
        if is_out_of_memory(error):
            raise error
        if self.inputs.device.type == "cuda":
            torch.cuda.synchronize(self.inputs.device)  # raises again if the device is lost


def _error(result: Tensor, expected: Tensor) -> float:
    """See Family; infinite for NaN, infinity, and another shape."""
    if result.shape != expected.shape:
        return float("inf")
    if not result.is_floating_point():
        return float((result != expected).double().mean())
    largest = expected.double().abs().max().clamp(min=1e-12)
    difference = float((result.double() - expected.double()).abs().max() / largest)
    return min(float("inf"), difference)  # in this order it is infinity for NaN


def _same(results: tuple[Tensor, ...], alone: tuple[Tensor, ...], row: slice) -> bool:
    return all(torch.equal(result[row], one) for result, one in zip(results, alone, strict=True))


def versions_of(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What a verdict is valid for."""
    model = Path(__file__).parents[1]
    sources = sorted(file for folder in ("ops", "triton") for file in (model / folder).glob("*.py"))
    return {
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "driver": _DRIVER.read_text() if _DRIVER.exists() else "",
        "cuda": torch.version.cuda or "",
        "torch": torch.__version__,
        "triton": _version("triton"),
        "flash_attn": _version("flash-attn"),
        "dtype": str(dtype),
        "sources": hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def stored_verdict(versions: dict[str, str]) -> Verdict | None:
    """None where there is none, or none that can be read."""
    try:
        verdict = Verdict.model_validate_json(_file_of(versions).read_bytes())
    except (OSError, TtsUnavailable, ValidationError):
        return None
    return verdict if verdict.versions == versions else None


def _keep(verdict: Verdict) -> None:
    try:
        file = _file_of(verdict.versions)
        scratch = file.with_suffix(f".{os.getpid()}")
        scratch.write_text(verdict.model_dump_json(indent=1))
        scratch.replace(file)
    except (OSError, TtsUnavailable) as error:
        _log.warning("self_test_not_kept", error=type(error).__name__)


def _file_of(versions: dict[str, str]) -> Path:
    digest = hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()
    return cache_folder() / f"self-test-{digest[:16]}.json"


def replayed_ms(work: Callable[[], object]) -> float:
    """The time of GPU work as the engine runs it: the median of some replays, each with several calls."""
    work()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_CALLS_A_REPLAY):
            work()
    return median(_replay_ms(graph) for _ in range(_REPLAYS)) / _CALLS_A_REPLAY


def _replay_ms(graph: "torch.cuda.CUDAGraph") -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
