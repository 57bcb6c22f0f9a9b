"""Downloads are complete or absent, and never repeat bytes that have arrived."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from makima_tts.errors import TtsUnavailable
from makima_tts.hub.cache import find_on_disk
from makima_tts.hub.download import download, find_or_download
from tests.model.conftest import PIECE, TOKEN
from tests.model.stand_in_hub import (
    CHECKPOINT,
    CODEC,
    COMMIT,
    MODEL,
    WEIGHTS,
    Hub,
    fetch,
    hear_nothing,
    tensors,
    there,
)


class Interrupted(Exception):
    """Aborts a download, as an interrupt or a closed engine does."""


def break_off_at(share: float) -> Callable[[str, float], None]:
    def report(_words: str, arrived: float) -> None:
        if arrived >= share:
            raise Interrupted

    return report


def test_only_the_files_of_a_checkpoint_are_downloaded(hub: Hub) -> None:
    assert there(fetch()) == CHECKPOINT
    assert sorted(hub.fetched()) == sorted(CHECKPOINT)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_what_was_downloaded_is_found_without_a_network(revision: str | None, hub: Hub) -> None:
    folder = fetch(revision)
    asked = len(hub.asked)
    assert find_on_disk(MODEL, revision) == folder
    assert find_or_download(MODEL, revision=revision, offline=True, report=hear_nothing) == folder
    assert find_or_download(MODEL, revision=revision, offline=False, report=hear_nothing) == folder
    assert len(hub.asked) == asked


def test_other_programs_find_it_in_the_same_cache(hub: Hub, cache: Path) -> None:
    folder = fetch()
    found = snapshot_download(MODEL, cache_dir=cache, local_files_only=True)
    assert Path(found).resolve() == folder.resolve()


def test_progress_rises_to_one(hub: Hub) -> None:
    heard: list[tuple[str, float]] = []
    download(MODEL, revision=None, report=lambda words, share: heard.append((words, share)))
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len({share for share in shares if 0 < share < 1}) >= 10


def test_a_download_that_broke_off_goes_on_where_it_was(hub: Hub) -> None:
    with pytest.raises(Interrupted):
        download(MODEL, revision=None, report=break_off_at(0.6))
    assert find_on_disk(MODEL, None) is None
    before = hub.fetched()
    hub.asked.clear()
    assert there(fetch()) == CHECKPOINT
    assert hub.fetched() == [WEIGHTS]
    assert before.count(WEIGHTS) == 1
    [asked] = [asked for asked in hub.asked if asked.name]
    total = sum(map(len, CHECKPOINT.values()))
    arrived = int(str(asked.range).removeprefix("bytes=").rstrip("-"))
    assert arrived % PIECE == 0
    assert arrived >= 0.6 * total - (total - len(CHECKPOINT[WEIGHTS])) - PIECE


def test_a_hub_without_range_requests_sends_the_whole_file_again(hub: Hub) -> None:
    with pytest.raises(Interrupted):
        download(MODEL, revision=None, report=break_off_at(0.6))
    hub.knows_ranges = False
    assert there(fetch()) == CHECKPOINT


def test_a_snapshot_without_any_required_file_is_incomplete_until_downloaded_again(hub: Hub) -> None:
    folder = fetch()
    for name in CHECKPOINT:
        (folder / name).resolve().unlink()
        assert find_on_disk(MODEL, None) is None, name
        hub.asked.clear()
        assert fetch() == folder
        assert hub.fetched() == [name]


def test_a_download_mends_what_was_damaged_on_the_disk(hub: Hub) -> None:
    folder = fetch()
    cut, changed = (folder / CODEC).resolve(), (folder / "merges.txt").resolve()
    cut.write_bytes(CHECKPOINT[CODEC][:-1])
    assert find_on_disk(MODEL, None) is None
    changed.write_bytes(b"y x\n")
    hub.asked.clear()
    assert there(fetch()) == CHECKPOINT
    assert sorted(hub.fetched()) == ["merges.txt", CODEC]


@pytest.mark.parametrize(
    "arrives", [CHECKPOINT[WEIGHTS][:-1] + b"!", CHECKPOINT[WEIGHTS][:-1], CHECKPOINT[WEIGHTS] + b"!"]
)
def test_a_file_with_a_wrong_digest_is_refused_and_deleted(arrives: bytes, hub: Hub, cache: Path) -> None:
    hub.spoilt[WEIGHTS] = arrives
    with pytest.raises(TtsUnavailable, match=r"^model\.safetensors arrived damaged"):
        fetch()
    assert find_on_disk(MODEL, None) is None
    assert arrives not in there(cache).values()
    hub.spoilt.clear()
    assert there(fetch()) == CHECKPOINT


def test_a_commit_stays_in_use_until_the_next_has_arrived(hub: Hub) -> None:
    first = fetch()
    hub.commit = "decade" + "0" * 34
    hub.files[WEIGHTS] = tensors(9500, 3)
    with pytest.raises(Interrupted):
        download(MODEL, revision=None, report=break_off_at(0.9))
    assert find_on_disk(MODEL, None) == first
    second = fetch()
    assert (first == second, there(first)) == (False, CHECKPOINT)
    assert find_on_disk(MODEL, None) == second


def test_sharded_weights_are_complete_once_every_file_is_there(hub: Hub) -> None:
    parts = {f"model-0000{n}-of-00002.safetensors": tensors(500, n) for n in (1, 2)}
    index = json.dumps({"weight_map": {f"t{n}": name for n, name in enumerate(parts)}}).encode()
    del hub.files[WEIGHTS]
    hub.files |= {**parts, "model.safetensors.index.json": index}
    folder = fetch()
    assert find_on_disk(MODEL, None) == folder
    (folder / next(iter(parts))).unlink()
    assert find_on_disk(MODEL, None) is None


def test_large_files_come_from_another_host_that_does_not_learn_the_login(hub: Hub) -> None:
    with Hub(hub.files) as cdn:
        hub.cdn = cdn
        assert there(fetch()) == CHECKPOINT
        assert sorted(cdn.fetched()) == [WEIGHTS, CODEC]
        assert {asked.authorization for asked in cdn.asked} == {None}
    assert {asked.authorization for asked in hub.asked} == {f"Bearer {TOKEN}"}


def test_a_folder_is_used_unchecked(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for found in (
        find_on_disk(str(folder), None),
        find_or_download(str(folder), revision="main", offline=True, report=hear_nothing),
        download(str(folder), revision=None, report=hear_nothing),
    ):
        assert found == folder
