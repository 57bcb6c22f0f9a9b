"""Encoded voices on disk."""

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from makima_tts.speech import VoicePrompt
from makima_tts.voices.prompts import PromptStore, prompt_key
from tests.voices.conftest import Place

KEY = "0" * 64
PROMPT = VoicePrompt(
    "engine-1",
    {
        "codes": np.arange(12, dtype=np.int64).reshape(3, 4),
        "embedding": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3).T,
        "length": np.array(7, np.int32),
    },
)


def same(left: VoicePrompt | None, right: VoicePrompt) -> bool:
    if left is None or left.fingerprint != right.fingerprint or left.tensors.keys() != right.tensors.keys():
        return False
    return all(
        left.tensors[name].dtype == tensor.dtype and np.array_equal(left.tensors[name], tensor)
        for name, tensor in right.tensors.items()
    )


def key(clip: bytes, *parts: str | None) -> str:
    return prompt_key(io.BytesIO(clip), *parts)


def test_a_saved_prompt_loads_unchanged(tmp_path: Path) -> None:
    store = PromptStore(tmp_path)
    store.save(KEY, PROMPT)
    assert same(store.load(KEY, "engine-1"), PROMPT)
    assert [path.suffix for path in (tmp_path / "voices").iterdir()] == [".safetensors"]


def test_a_prompt_of_another_engine_is_not_loaded(tmp_path: Path) -> None:
    store = PromptStore(tmp_path)
    store.save(KEY, PROMPT)
    assert store.load(KEY, "engine-2") is None


@pytest.mark.parametrize("kept_bytes", [0, 4, 8, 60, -1])
def test_a_damaged_file_is_logged_and_overwritten(tmp_path: Path, kept_bytes: int) -> None:
    store = PromptStore(tmp_path)
    store.save(KEY, PROMPT)
    path = tmp_path / "voices" / f"{KEY}.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with capture_logs() as logs:
        assert store.load(KEY, "engine-1") is None
    assert [line["event"] for line in logs] == ["voice_cache_file_unreadable"]
    store.save(KEY, PROMPT)
    assert same(store.load(KEY, "engine-1"), PROMPT)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "X7"])
def test_a_valid_file_of_types_without_numpy_support_is_logged_and_overwritten(
    tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "voices" / f"{KEY}.safetensors"
    path.parent.mkdir()
    size_bytes = {"BF16": 16, "F4": 4, "F6_E2M3": 6}.get(dtype, 8)
    tensor = {"dtype": dtype, "shape": [8], "data_offsets": [0, size_bytes]}
    header = json.dumps({"__metadata__": {"fingerprint": "engine-1"}, "codes": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size_bytes))
    store = PromptStore(tmp_path)
    with capture_logs() as logs:
        assert store.load(KEY, "engine-1") is None
    assert [line["event"] for line in logs] == ["voice_cache_file_unreadable"]
    store.save(KEY, PROMPT)
    assert same(store.load(KEY, "engine-1"), PROMPT)


def test_a_sweep_removes_what_a_crash_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(path: Path, *_: object, **__: object) -> None:
        raise Crash

    store = PromptStore(tmp_path)
    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", crash)
        dying.setattr(Path, "unlink", crash)
        with pytest.raises(Crash):
            store.save("1" * 64, PROMPT)
    store.save(KEY, PROMPT)
    assert len(list((tmp_path / "voices").iterdir())) == 2
    PromptStore(tmp_path).sweep()
    assert [path.stem for path in (tmp_path / "voices").iterdir()] == [KEY]


def test_a_sweep_of_a_cache_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    PromptStore(tmp_path / "cache").sweep()
    assert not (tmp_path / "cache").exists()


def test_garbage_with_a_huge_header_is_not_believed(tmp_path: Path) -> None:
    store = PromptStore(tmp_path)
    path = tmp_path / "voices" / f"{KEY}.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"\xff" * 4096)
    assert store.load(KEY, "engine-1") is None


def test_the_longest_unused_files_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    large = VoicePrompt("engine-1", {"x": np.zeros(1000, np.uint8)})
    store = PromptStore(tmp_path, max_bytes=2500)
    for age, name in enumerate("cba"):
        store.save(name * 64, large)
        os.utime(tmp_path / "voices" / f"{name * 64}.safetensors", (age, age))
    assert store.load("a" * 64, "engine-1")
    store.save("d" * 64, large)
    assert {path.name[0] for path in (tmp_path / "voices").iterdir()} == {"a", "d"}


def test_loading_counts_as_a_use(tmp_path: Path) -> None:
    store = PromptStore(tmp_path)
    store.save(KEY, PROMPT)
    path = tmp_path / "voices" / f"{KEY}.safetensors"
    os.utime(path, (0, 0))
    store.load(KEY, "engine-1")
    assert path.stat().st_mtime > 0


def test_a_read_only_folder_is_logged_once(open_place: Place, unprivileged: None) -> None:
    store = PromptStore(open_place.cache_dir)
    with capture_logs() as logs:
        store.save(KEY, PROMPT)
        store.save(KEY, PROMPT)
    assert [line["event"] for line in logs] == ["voice_cache_not_writable"]
    assert store.load(KEY, "engine-1") is None


def test_a_file_where_the_folder_should_be_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    store = PromptStore(tmp_path / "cache")
    store.save(KEY, PROMPT)
    assert store.load(KEY, "engine-1") is None


@given(
    st.lists(
        st.tuples(st.binary(max_size=4), st.lists(st.none() | st.text(max_size=3), max_size=3)), min_size=2
    )
)
def test_keys_are_equal_only_for_equal_dependencies(voices: list[tuple[bytes, list[str | None]]]) -> None:
    keys = {key(clip, *parts) for clip, parts in voices}
    assert len(keys) == len({(clip, tuple(parts)) for clip, parts in voices})


def test_a_key_leaves_the_clip_at_its_start() -> None:
    clip = io.BytesIO(b"abc")
    prompt_key(clip)
    assert clip.read() == b"abc"
