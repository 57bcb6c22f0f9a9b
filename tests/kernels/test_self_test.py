"""The self-test keeps kernels that are right, and replaces those that fail, are wrong or are slow."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from makima_tts.model import speech_model
from makima_tts.model.checkpoint.config import CodecDecoderConfig
from makima_tts.model.checkpoint.folder import Checkpoint
from makima_tts.model.checkpoint.tensors import Weights
from makima_tts.model.codec import CodecDecoder
from makima_tts.model.codec_ops import CodecState
from makima_tts.model.ops import self_test, table
from makima_tts.model.ops.fixed_inputs import FixedInputs
from makima_tts.model.ops.self_test import Clock, select_ops, stored_verdict, versions_of
from makima_tts.model.ops.table import FAMILIES, Linear, Ops, torch_ops, triton_ops
from makima_tts.model.ops.torch import TorchStack, torch_attention
from makima_tts.model.sampling import FirstCodebook, SamplerState, TorchFrameSampler
from makima_tts.model.speech_model import SpeechModel
from makima_tts.model.transformer import KeyValueCache, LayerStack, RowPositions
from makima_tts.model.triton import linear
from tests.checkpoints.models import checkpoint_folder
from tests.kernels.places import DEVICE, DTYPES

CPU = torch.device("cpu")
ROWS, FEW_ROWS = 4, 3
# Their results are float; those of the others are codes and samples of 16 bits.
FLOAT_FAMILIES = tuple(name for name in FAMILIES if name not in ("sampler", "finish"))

Change = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And a folder for verdicts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(self_test, "_FEW_ROWS", FEW_ROWS)
    monkeypatch.setattr(self_test, "ATTENTION", replace(self_test.ATTENTION, rows=ROWS))
    monkeypatch.setattr(self_test, "OTHERS", [replace(each, rows=ROWS) for each in self_test.OTHERS])
    if DEVICE.type == "cpu":
        monkeypatch.setattr(linear, "_ENOUGH_PROGRAMS", 1)  # fewer, and so faster to interpret


@pytest.fixture
def as_on_cuda() -> Iterator[None]:
    """torch's leaves do not keep the law of the batch."""
    with mock.patch.object(self_test._SelfTest, "_keeps_law", lambda _self, name: name != "torch"):
        yield


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(checkpoint_folder("windowed"))


@dataclass
class ChangedStack:
    """A LayerStack whose results are changed."""

    stack: LayerStack
    change: Change
    looks_to_limit: bool = True
    is_ragged: bool = False

    def run(self, rows: Tensor, at: RowPositions, cache: KeyValueCache) -> Tensor:
        return self.change(self.stack.run(rows, at, cache))


def changed_linear(leaf: Linear, change: Change) -> Linear:
    return lambda rows: change(leaf(rows))


@dataclass(frozen=True)
class RowByRowDecoder(CodecDecoder):
    """It keeps the law of the batch, which torch's does not, on a CPU neither. Its samples are changed."""

    change: Change

    def decode(self, codes: Tensor, state: CodecState, slots: Tensor) -> Tensor:
        rows = zip(torch.split(codes, 1), torch.split(slots, 1), strict=True)
        return self.change(torch.cat([CodecDecoder.decode(self, row, state, slot) for row, slot in rows]))


def ours(family: str = "", change: Change = lambda result: result) -> Ops:
    """A table of leaves that are right, as torch's are, but for the results of one family."""
    leaves = torch_ops()
    right = replace(leaves, implementations=dict.fromkeys(FAMILIES, "triton"))

    class ChangedSampler(TorchFrameSampler):
        def sample_first(self, logits: Tensor) -> Tensor:
            return change(super().sample_first(logits))

        def sample(self, logits: Tensor, codebook: int) -> Tensor:
            return change(super().sample(logits, codebook))

    def codec(config: CodecDecoderConfig, weights: Weights) -> CodecDecoder:
        decoder = leaves.codec(config, weights)
        loaded = {each.name: getattr(decoder, each.name) for each in fields(decoder)}
        return RowByRowDecoder(**loaded, change=change if family == "codec" else lambda result: result)

    def sampler(first: FirstCodebook, state: SamplerState, slots: Tensor) -> ChangedSampler:
        return ChangedSampler(first, state, slots)

    def finish(samples: Tensor, frames: int, rate_hz: int) -> tuple[Tensor, Tensor, Tensor]:
        pcm, loud, finite = leaves.finish(samples, frames, rate_hz)
        return change(pcm), loud, finite

    changed: dict[str, Any] = {
        "attention": lambda *given: change(torch_attention(*given)),
        "layers": lambda *given: ChangedStack(leaves.layers(*given), change),
        "linear": lambda weight, bias: changed_linear(leaves.linear(weight, bias), change),
        "logits": lambda weight: changed_linear(leaves.logits(weight), change),
        "sampler": sampler,
        "finish": finish,
    }
    return replace(right, codec=codec, **({family: changed[family]} if family not in ("", "codec") else {}))


def tables(ops: Ops) -> dict[str, Ops]:
    names = {**ops.implementations, "attention": "torch"}
    return {"triton": ops, "torch": replace(ops, attention=torch_attention, implementations=names)}


def equal_times(_work: Callable[[], object]) -> float:
    return 1.0


def selected(
    checkpoint: Checkpoint, candidates: dict[str, Ops], clock: Clock = equal_times
) -> tuple[Ops, Sequence[Any]]:
    """The table, and the warnings."""
    with capture_logs() as logs:
        ops = select_ops(checkpoint, CPU, torch.float32, candidates, clock)
    return ops, [each for each in logs if each["log_level"] == "warning"]


def fail(_result: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available for this card")


def lie(result: Tensor) -> Tensor:
    return result * 1.5 if result.is_floating_point() else result + 1


def lie_about_few_rows(result: Tensor) -> Tensor:
    return lie(result) if len(result) == FEW_ROWS else result


def lie_about_the_last_row(result: Tensor) -> Tensor:
    return torch.cat((result[:-1], lie(result[-1:]))) if len(result) == ROWS else result


def return_nan(result: Tensor) -> Tensor:
    return result.masked_fill(result == result.flatten()[-1], float("nan"))


def return_infinity(result: Tensor) -> Tensor:
    return result.masked_fill(result == result.flatten()[-1], float("inf"))


def depend_on_the_batch(result: Tensor) -> Tensor:
    return result * (1 + 1e-5 * len(result))


def test_nothing_is_replaced_where_all_is_right(checkpoint: Checkpoint) -> None:
    """Triton's kernels, on the GPU if there is one, else interpreted, without the codec, which takes long."""
    candidates = {"triton": triton_ops(), "torch": triton_ops(torch_attention, "torch")}
    if DEVICE.type == "cpu":
        candidates = {name: replace(each, codec=ours().codec) for name, each in candidates.items()}
    with capture_logs() as logs:
        ops = select_ops(checkpoint, DEVICE, torch.float32, candidates, equal_times)
    assert [each["event"] for each in logs] == ["kernels_tested"]
    assert logs[0]["duration_s"] > 0
    assert ops.implementations == dict.fromkeys(FAMILIES, "triton")
    assert ops.layers is candidates["triton"].layers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_nothing_is_replaced_on_this_card_and_all_is_measured(checkpoint: Checkpoint) -> None:
    for dtype in DTYPES:
        with capture_logs() as logs:
            ops = select_ops(checkpoint, DEVICE, dtype)
        assert [each["event"] for each in logs] == ["kernels_tested"]
        assert logs[0]["duration_s"] < 60
        assert {**ops.implementations, "attention": "triton"} == dict.fromkeys(FAMILIES, "triton")


def test_attention_is_compared_with_flash_attn_where_it_is_installed() -> None:
    for package, names in ((mock.Mock(), ["triton", "flash_attn", "torch"]), (None, ["triton", "torch"])):
        with mock.patch.dict(sys.modules, {"flash_attn": package}):
            candidates = self_test._installed(torch.bfloat16)
        assert list(candidates) == names
        assert [each.implementations["attention"] for each in candidates.values()] == names
        assert len({each.attention for each in candidates.values()}) == len(names)


def test_a_model_is_loaded_with_the_leaves_that_passed(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "kernels_lack", lambda _device: None)
    passed = torch_ops()
    monkeypatch.setattr(speech_model, "select_ops", lambda *_given: passed)
    model = SpeechModel.load(checkpoint, CPU, torch.float32, positions=16)
    assert model.ops is passed
    assert isinstance(model.talker.transformer.stack, TorchStack)


@pytest.mark.parametrize(
    ("change", "reason", "families"),
    [
        (fail, "raised", FAMILIES),
        (lie, "disagrees", FAMILIES),
        (lie_about_few_rows, "disagrees", FAMILIES),
        (lie_about_the_last_row, "disagrees", FAMILIES),
        (return_nan, "disagrees", FLOAT_FAMILIES),
        (return_infinity, "disagrees", FLOAT_FAMILIES),
        (depend_on_the_batch, "disagrees", FLOAT_FAMILIES),
    ],
)
def test_a_kernel_that_fails_or_lies_is_replaced_with_one_warning(
    change: Change, reason: str, families: Sequence[str], checkpoint: Checkpoint
) -> None:
    for family in families:
        ops, warnings = selected(checkpoint, tables(ours(family, change)))
        told = [(each["event"], each["family"], each["reason"]) for each in warnings]
        assert told == [("kernel_replaced", family, reason)]
        assert warnings[0]["implementation"] == "torch"
        replaced = {name for name, implementation in ops.implementations.items() if implementation == "torch"}
        assert replaced == ({family, "attention"} if family == "layers" else {family})
        if reason == "disagrees":
            beyond = warnings[0]["max_error"] > warnings[0]["tolerance"]
            assert beyond or not warnings[0]["same_alone"]
        assert getattr(ops, family) == getattr(torch_ops(), family) or family == "codec"


@pytest.mark.usefixtures("as_on_cuda")
def test_the_warning_says_that_the_replacement_breaks_the_law_of_the_batch(checkpoint: Checkpoint) -> None:
    for family in FAMILIES:
        ops, warnings = selected(checkpoint, tables(ours(family, lie)))
        assert [(each["family"], each["batch_invariant"]) for each in warnings] == [(family, False)]
        assert ops.implementations[family] == "torch"


@pytest.mark.usefixtures("as_on_cuda")
def test_layers_are_not_blamed_for_an_attention_that_breaks_the_law(checkpoint: Checkpoint) -> None:
    candidates = tables(ours("attention", fail))
    candidates["torch"] = replace(candidates["torch"], layers=ours("layers", depend_on_the_batch).layers)
    ops, warnings = selected(checkpoint, candidates)
    assert [each["family"] for each in warnings] == ["attention"]
    assert (ops.implementations["attention"], ops.implementations["layers"]) == ("torch", "triton")


class Stopwatch:
    """Ours takes so long in each repetition; torch's 1 ms. ``reads`` counts."""

    def __init__(self, *ours_ms: float) -> None:
        self._ours_ms = iter(ours_ms)
        self._ours_ran = False
        self.reads = 0

    def notice(self, result: Tensor) -> Tensor:
        self._ours_ran = True
        return result

    def __call__(self, work: Callable[[], object]) -> float:
        self.reads += 1
        self._ours_ran = False
        work()
        return next(self._ours_ms) if self._ours_ran else 1.0


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "codec"])
def test_a_slow_kernel_is_replaced_where_the_other_keeps_the_law(family: str, checkpoint: Checkpoint) -> None:
    clock = Stopwatch(1.3, 1.25, 1.4)
    ops, warnings = selected(checkpoint, tables(ours(family, clock.notice)), clock)
    assert [(each["family"], each["reason"]) for each in warnings] == [(family, "slower")]
    assert warnings[0]["batch_invariant"]
    assert warnings[0]["times_ms"] == {"triton": 1.25, "torch": 1.0}
    assert ops.implementations[family] == "torch"


@pytest.mark.parametrize("times_ms", [(1.15, 1.15, 1.15), (9.0, 1.1, 9.0)])
def test_a_kernel_that_is_not_slow_every_time_is_kept(
    times_ms: tuple[float, ...], checkpoint: Checkpoint
) -> None:
    clock = Stopwatch(*times_ms)
    ops, warnings = selected(checkpoint, tables(ours("linear", clock.notice)), clock)
    assert not warnings
    assert ops.implementations["linear"] == "triton"


def test_a_slow_codec_is_kept_where_the_other_is_found_to_break_the_law(checkpoint: Checkpoint) -> None:
    ops, warnings = selected(checkpoint, tables(ours()), lambda _work: 1.0)
    assert not warnings
    assert ops.implementations["codec"] == "triton"
    verdict = stored_verdict(versions_of(CPU, torch.float32))
    assert verdict is not None
    assert "codec" not in verdict.times_ms


@pytest.mark.usefixtures("as_on_cuda")
def test_a_slow_kernel_is_kept_where_the_other_breaks_the_law(checkpoint: Checkpoint) -> None:
    for family in FAMILIES:
        clock = Stopwatch()
        ops, warnings = selected(checkpoint, tables(ours(family, clock.notice)), clock)
        assert not warnings
        assert clock.reads == 0
        assert ops.implementations[family] == "triton"


def with_flash(of_triton: Ops, of_flash: Ops) -> dict[str, Ops]:
    flash = replace(of_flash, implementations={**of_flash.implementations, "attention": "flash_attn"})
    return {"triton": of_triton, "flash_attn": flash, "torch": tables(of_triton)["torch"]}


@pytest.mark.usefixtures("as_on_cuda")
def test_flash_attn_replaces_an_attention_that_is_slow_or_wrong(checkpoint: Checkpoint) -> None:
    clock = Stopwatch(2.0, 2.0, 2.0)
    for candidates in (
        with_flash(ours("attention", clock.notice), ours()),
        with_flash(ours("attention", lie), ours()),
    ):
        ops, warnings = selected(checkpoint, candidates, clock)
        assert [each["implementation"] for each in warnings] == ["flash_attn"]
        assert warnings[0]["batch_invariant"]
        assert ops.implementations == {**dict.fromkeys(FAMILIES, "triton"), "attention": "flash_attn"}


@pytest.mark.usefixtures("as_on_cuda")
def test_a_flash_attn_that_fails_replaces_nothing(checkpoint: Checkpoint) -> None:
    ops, warnings = selected(checkpoint, with_flash(ours(), ours("attention", fail)))
    assert not warnings
    assert ops.implementations["attention"] == "triton"
    ops, warnings = selected(checkpoint, with_flash(ours("attention", lie), ours("attention", fail)))
    assert [each["implementation"] for each in warnings] == ["torch"]


def refuse_to_measure(_work: Callable[[], object]) -> float:
    raise AssertionError("it was measured before")


def verdict_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "makima-tts").glob("self-test-*.json")
    return file


def slow_logits(checkpoint: Checkpoint, *times_ms: float) -> tuple[str, int]:
    """The implementation that was selected, and how many times the clock was read."""
    clock = Stopwatch(*times_ms)
    ops, _ = selected(checkpoint, tables(ours("logits", clock.notice)), clock)
    return ops.implementations["logits"], clock.reads


def test_a_verdict_is_kept_and_its_warning_repeated(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert slow_logits(checkpoint, 2.0, 2.0, 2.0)[0] == "torch"
    written = verdict_file(tmp_path).stat()
    with mock.patch.object(self_test, "replayed_ms", refuse_to_measure):
        ops, warnings = selected(checkpoint, tables(ours()), refuse_to_measure)
    assert ops.implementations["logits"] == "torch"
    assert [(each["family"], each["reason"]) for each in warnings] == [("logits", "slower")]
    assert verdict_file(tmp_path).stat().st_mtime_ns == written.st_mtime_ns
    verdict = stored_verdict(versions_of(CPU, torch.float32))
    assert verdict is not None
    assert verdict.implementations == ops.implementations


def test_correctness_is_tested_again_in_spite_of_a_verdict(checkpoint: Checkpoint) -> None:
    selected(checkpoint, tables(ours()))
    ops, warnings = selected(checkpoint, tables(ours("linear", lie)), refuse_to_measure)
    assert ops.implementations["linear"] == "torch"
    assert [each["reason"] for each in warnings] == ["disagrees"]


def test_a_verdict_is_valid_for_one_card_and_its_versions() -> None:
    versions = versions_of(CPU, torch.float32)
    assert set(versions) == {"card", "driver", "cuda", "torch", "triton", "flash_attn", "dtype", "sources"}
    files = {self_test._file_of({**versions, changed: "another"}) for changed in versions}
    assert len(files | {self_test._file_of(versions)}) == len(versions) + 1


def test_another_version_is_measured_anew(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slow_logits(checkpoint, 2.0, 2.0, 2.0)[0] == "torch"
    versions = {**versions_of(CPU, torch.float32), "driver": "another"}
    monkeypatch.setattr(self_test, "versions_of", lambda *_given: versions)
    implementation, reads = slow_logits(checkpoint, 1.0, 1.0, 1.0)
    assert implementation == "triton"
    assert reads > 0


def test_a_damaged_verdict_is_measured_anew(checkpoint: Checkpoint) -> None:
    versions = versions_of(CPU, torch.float32)
    for damage in (b"\xff\x00", b"[]", b'{"versions": {}}', b'{"times_ms": {"a": {"b": -1}}}', b""):
        self_test._file_of(versions).write_bytes(damage)
        assert stored_verdict(versions) is None
    assert slow_logits(checkpoint, 2.0, 2.0, 2.0)[1] > 0
    assert stored_verdict(versions) is not None


def test_a_folder_that_cannot_be_written_costs_only_the_verdict(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    ops, warnings = selected(checkpoint, tables(ours()))
    assert [each["event"] for each in warnings] == ["self_test_not_kept"]
    assert ops.implementations == dict.fromkeys(FAMILIES, "triton")


def test_out_of_memory_is_no_fault_of_a_kernel(checkpoint: Checkpoint) -> None:
    def run_out(_result: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        selected(checkpoint, tables(ours("linear", run_out)))


def test_a_lost_device_ends_the_start_and_another_error_does_not(checkpoint: Checkpoint) -> None:
    test = self_test._SelfTest(FixedInputs(checkpoint, torch.device("cuda"), torch.float32), {}, equal_times)
    with mock.patch.object(torch.cuda, "synchronize"):
        test._raise_if_fatal(RuntimeError("Triton Error [CUDA]: invalid argument"))
    lost = RuntimeError("CUDA error: an illegal memory access was encountered")
    with (
        mock.patch.object(torch.cuda, "synchronize", side_effect=lost),
        pytest.raises(RuntimeError, match="illegal memory access"),
    ):
        test._raise_if_fatal(RuntimeError("the first error"))
