"""Kernels are compiled once and kept in a private folder; a missing compiler is a clear error."""

import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from makima_tts.errors import TtsUnavailable
from makima_tts.model.devices import precision_on
from makima_tts.model.native import compiler
from makima_tts.model.native.compiler import PLAIN, InstructionSet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing was compiled yet; what is compiled is forgotten afterwards. One source is enough."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler, "BUILT", tmp_path / "built")
    monkeypatch.setattr(compiler, "instruction_sets", lambda: (PLAIN,))
    few = tuple(source for source in compiler.SOURCES if source.stem == "parallel")
    monkeypatch.setattr(compiler, "SOURCES", few)
    compiler.library.cache_clear()
    yield tmp_path / "cache" / "makima-tts"
    compiler.library.cache_clear()


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)


def test_what_was_compiled_is_found_again(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.library()
    (made,) = empty_cache.iterdir()
    assert made.name == PLAIN.file_name
    assert stat.S_IMODE(empty_cache.stat().st_mode) == 0o700
    without_compiler(monkeypatch)
    compiler.library.cache_clear()
    assert isinstance(compiler.library(), ctypes.CDLL)


def test_a_folder_that_others_can_write_to_is_not_used(empty_cache: Path) -> None:
    compiler.library()
    empty_cache.chmod(0o777)
    compiler.library.cache_clear()
    with pytest.raises(TtsUnavailable, match="Other users can write to"):
        compiler.library()


def test_what_is_built_can_be_read_by_whoever_runs_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert stat.S_IMODE(compiler.build(PLAIN, tmp_path).stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_what_was_built_ahead_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "built").mkdir()
    compiler.build(PLAIN, tmp_path / "built")
    without_compiler(monkeypatch)
    assert isinstance(compiler.library(), ctypes.CDLL)


def test_without_a_compiler_int8_says_what_to_do_and_auto_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    with pytest.raises(TtsUnavailable, match=r"install one .* or set TTS_CPU_PRECISION=fp32"):
        precision_on(CPU, "auto", "int8")
    monkeypatch.setattr("makima_tts.model.devices.instruction_sets", lambda: (InstructionSet("some", ()),))
    assert precision_on(CPU, "auto", "auto").weight_bits is None


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'no space left on the device' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(TtsUnavailable, match="cc could not compile the kernels: no space left"):
        compiler.library()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(TtsUnavailable, match="XDG_CACHE_HOME"):
        compiler.library()
