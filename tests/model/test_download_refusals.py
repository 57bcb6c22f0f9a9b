"""Every failed download is reported in a sentence without secrets or paths."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from makima_tts.errors import TtsUnavailable
from makima_tts.hub.cache import blob_path, hub_cache, snapshot_path
from makima_tts.hub.download import find_or_download
from tests.model.conftest import TOKEN
from tests.model.stand_in_hub import CHECKPOINT, COMMIT, MODEL, WEIGHTS, Hub, fetch, hear_nothing, there

pytestmark = pytest.mark.usefixtures("cache")

REFUSALS = {
    "gated": (403, "GatedRepo", "Access to it is restricted", "accepted its terms.*HF_TOKEN"),
    "not there": (404, "RepoNotFound", "Repository not found", "no model of that name.*TTS_MODEL_ID"),
    "not told apart": (
        401,
        "RepoNotFound",
        "Invalid username or password.",
        "no model of that name.*private",
    ),
    "a bad login": (401, "", "Invalid credentials in Authorization header", "refuses the login"),
    "forbidden": (403, "", "Not allowed", "refuses the login"),
    "too many": (429, "", "", "too many requests.*wait"),
    "down": (503, "", "", r"trouble \(HTTP 503\).*later"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_of_the_hub_is_reported_in_a_sentence(case: str, hub: Hub) -> None:
    status, code, words, expected = REFUSALS[case]
    hub.refusal = (status, code, words)
    assert_refused(expected)


def assert_refused(expected: str, revision: str | None = None, model: str = MODEL) -> None:
    """In a sentence without the login, an address or a path, and without a cause that could hold them."""
    with pytest.raises(TtsUnavailable, match=expected) as refused:
        find_or_download(model, revision=revision, offline=False, report=hear_nothing)
    assert TOKEN not in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)
    assert str(hub_cache()) not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_unknown_revision_is_reported_with_its_setting(hub: Hub) -> None:
    assert_refused("not that revision.*TTS_MODEL_REVISION", revision="no-such-branch")


@pytest.mark.parametrize("model", ["/no/such/folder", "a/b/c", "two words", ""])
def test_a_model_id_that_is_neither_folder_nor_name_is_refused(model: str, hub: Hub) -> None:
    assert_refused("neither a folder with a config.json nor a name", model=model)


def test_another_kind_of_model_is_refused_before_anything_is_fetched(hub: Hub) -> None:
    del hub.files["speech_tokenizer/config.json"]
    assert_refused("no Qwen3-TTS checkpoint: it has no speech_tokenizer/config.json")
    assert hub.fetched() == []


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"id": MODEL},
        {"id": MODEL, "sha": "../../x", "siblings": [{"rfilename": name} for name in CHECKPOINT]},
        {"id": MODEL, "sha": COMMIT, "siblings": [{"rfilename": name, "size": 1} for name in CHECKPOINT]},
        {
            "id": MODEL,
            "sha": COMMIT,
            "siblings": [{"rfilename": name, "size": 1, "blobId": "../../x"} for name in CHECKPOINT],
        },
    ],
)
def test_what_does_not_answer_as_a_hub_is_no_hub(answer: object, hub: Hub, cache: Path) -> None:
    hub.answer = answer
    with pytest.raises(TtsUnavailable):
        fetch()
    assert not cache.exists()


def test_a_file_name_that_leaves_the_folder_is_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {"../x.json": b"{}", "speech_tokenizer/../../y.json": b"{}", "..\\z.json": b"{}"}
    assert there(fetch()) == CHECKPOINT
    assert list(tmp_path.rglob("[xyz].json")) == []


def test_an_unreachable_network_is_reported_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({}) as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert_refused("cannot be reached.*what arrived is kept")


@pytest.mark.parametrize("how", ["TTS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked_and_the_sentence_says_what_to_do(
    how: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "HF_HUB_OFFLINE")
    with pytest.raises(TtsUnavailable, match=f"{how} forbids downloading.*TTS_MODEL_ID to a folder"):
        find_or_download(MODEL, revision=None, offline=how == "TTS_OFFLINE", report=hear_nothing)
    assert hub.asked == []


def test_a_disk_that_is_too_small_is_seen_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makima_tts.hub.download.shutil.disk_usage", lambda _: SimpleNamespace(free=5000))
    assert_refused(r"wants 0\.0 MB more on the disk, and 0\.0 MB are free.*HF_HOME")
    assert hub.fetched() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_reported_in_a_sentence(hub: Hub) -> None:
    fetch()
    digest = (snapshot_path(MODEL, COMMIT) / WEIGHTS).resolve().name
    blob = blob_path(MODEL, digest)
    blob.unlink()
    blob.with_name(f"{digest}.incomplete").symlink_to("/dev/full")
    assert_refused("disk is full.*make room")


def test_a_read_only_cache_is_reported_in_a_sentence(hub: Hub, cache: Path) -> None:
    cache.parent.write_text("a file is where the folder should be")
    assert_refused(r"cannot be written to \(NotADirectoryError\); set HF_HOME")
