"""The index of voices: adding, deleting, changes on disk."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from makima_tts.audio import Clip, read_clip
from makima_tts.errors import Conflict, Forbidden, TtsError, TtsUnavailable, VoiceNotFound
from makima_tts.voices import VoiceLibrary, library as library_module
from makima_tts.voices.library import RESCAN_S, SHIPPED, Manifest, VoiceFolder
from tests.voices.clips import TRANSCRIPT, good_clip, silence
from tests.voices.conftest import Place, make_voice

CLIP, _ = read_clip(BytesIO(good_clip()))


def add(library: VoiceLibrary, voice_id: str, clip: Clip = CLIP) -> VoiceFolder:
    return library.add(Manifest(id=voice_id, reference_audio="reference.wav"), clip, TRANSCRIPT)


def usable(library: VoiceLibrary) -> list[str]:
    return [voice.id for voice in library.voices() if voice.reason is None]


def test_what_ships_with_the_package_can_be_read() -> None:
    voices = {voice.id: voice for voice in VoiceLibrary(Path("nowhere")).voices()}
    assert voices.keys() == {"makima", "narrator"}
    assert voices["narrator"].reason is None
    assert voices["makima"].manifest is not None


def test_in_a_checkout_what_ships_lies_in_the_operators_folder_once() -> None:
    own = (SHIPPED / "narrator").resolve().parent
    library = VoiceLibrary(own)
    assert all(voice.shipped for voice in library.voices() if voice.id in ("makima", "narrator"))
    with pytest.raises(Forbidden):
        library.remove("narrator")


def test_the_operators_voices_add_to_what_ships_and_win_over_it(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    make_voice(place.voices_dir, "narrator", name="Mine")
    library = place.library()
    assert usable(library) == ["anna", "narrator"]
    narrator = library.find("narrator")
    assert narrator is not None
    assert (narrator.name, narrator.shipped) == ("Mine", False)


def test_broken_folders_are_listed_and_the_others_work(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    (make_voice(place.voices_dir, "broken") / "manifest.json").write_text("{")
    (place.voices_dir / "empty").mkdir()
    (place.voices_dir / "README.md").write_text("Not a voice.")
    library = place.library()
    assert [voice.id for voice in library.voices()] == ["anna", "broken", "empty", "makima", "narrator"]
    assert usable(library) == ["anna", "narrator"]


def test_of_two_folders_with_one_id_the_second_is_listed_with_a_reason(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    make_voice(place.voices_dir, "b-copy", id="anna")
    make_voice(place.voices_dir, "c-own", id="anna-2")
    library = place.library()
    reasons = {voice.id: voice.reason for voice in library.voices() if not voice.shipped}
    assert reasons == {
        "anna": None,
        "anna-2": None,
        "anna-3": "Another folder has the id anna; give this one an id of its own.",
    }


def test_an_id_that_is_made_of_a_name_is_one_that_no_other_folder_has(place: Place) -> None:
    for folder in ("Ąnna", "Anna", "Narrátor", "Łukasz"):
        make_voice(place.voices_dir, folder, id=None)
    make_voice(place.voices_dir, "z", id="anna")
    voices = place.library().voices()
    assert {voice.id: voice.path.name for voice in voices if voice.reason is None} == {
        "anna": "z",
        "anna-2": "Anna",
        "anna-3": "Ąnna",
        "lukasz": "Łukasz",
        "narrator": "narrator",
        "narrator-2": "Narrátor",
    }


@pytest.mark.parametrize(
    "wanted", ["", "..", "../narrator", "narrator/", "Narrator", "a" * 65, "narrator\n", "\0"]
)
def test_what_cannot_be_an_id_is_not_looked_for(place: Place, wanted: str) -> None:
    library = place.library()
    assert library.find(wanted) is None
    with pytest.raises(VoiceNotFound):
        library.remove(wanted)


def test_a_clip_that_is_dropped_in_is_found_without_a_restart(place: Place) -> None:
    folder = make_voice(place.voices_dir, "anna", clip=b"")
    library = place.library()
    before = library.find("anna")
    (folder / "reference.wav").write_bytes(good_clip())
    after = library.find("anna")
    assert before is not None
    assert after is not None
    assert (before.reason is None, after.reason is None) == (False, True)


def test_an_added_or_removed_folder_is_noticed(place: Place) -> None:
    library = place.library()
    assert library.find("anna") is None
    folder = make_voice(place.voices_dir, "anna")
    assert library.find("anna") is not None
    shutil.rmtree(folder)
    assert library.find("anna") is None


def test_unknown_ids_cause_at_most_one_scan_per_interval(place: Place) -> None:
    folder = make_voice(place.voices_dir, "anna")
    library = place.library()
    assert library.find("berta") is None
    (folder / "manifest.json").write_text('{"id": "berta", "reference_audio": "reference.wav"}')
    place.clock.now_s += RESCAN_S / 2
    assert library.find("berta") is None
    place.clock.now_s += RESCAN_S / 2
    assert library.find("berta") is not None


def test_a_folder_that_is_dropped_in_is_found_right_after_it_was_asked_for(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    os.utime(place.voices_dir, (0, 0))
    library = place.library()
    assert library.find("berta") is None
    make_voice(place.voices_dir, "berta")
    assert library.find("berta") is not None


def test_a_known_voice_is_found_without_waiting_for_a_scan(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = place.library()
    known = library.find("narrator")
    scanning, go_on = threading.Event(), threading.Event()

    def slow_folders(root: Path) -> list[Path]:
        scanning.set()
        assert go_on.wait(10)
        return []

    monkeypatch.setattr(library_module, "_folders", slow_folders)
    with ThreadPoolExecutor(2) as threads:
        scan = threads.submit(library.voices)
        try:
            assert scanning.wait(10)
            assert threads.submit(library.find, "narrator").result(5) is known
        finally:
            go_on.set()
        assert scan.result(10) == []


def test_an_unchanged_voice_is_not_read_again(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    library = place.library()
    before = library.find("anna")
    library.voices()
    assert library.find("anna") is before


def test_an_added_voice_exists_after_a_restart(place: Place) -> None:
    added = add(place.library(), "anna")
    found = place.library().find("anna")
    assert found == added
    assert found is not None
    assert (found.transcript, found.reason, found.shipped) == (TRANSCRIPT, None, False)
    assert place.leftovers() == []


def test_an_id_that_is_taken_is_a_conflict_and_changes_nothing(place: Place) -> None:
    library = place.library()
    first = add(library, "anna")
    for taken in ("anna", "narrator"):
        with pytest.raises(Conflict, match=taken):
            add(library, taken, Clip(silence(3.0), 24_000))
    assert library.find("anna") == first
    assert place.leftovers() == []


def test_a_shipped_voice_without_clip_can_be_given_one_and_lose_it_again(place: Place) -> None:
    library = place.library()
    assert add(library, "makima").reason is None
    library.remove("makima")
    back = library.find("makima")
    assert back is not None
    assert back.shipped
    assert back.reason


def test_a_folder_that_is_in_the_way_is_not_touched(place: Place) -> None:
    in_the_way = make_voice(place.voices_dir, "anna", id="berta")
    before = (in_the_way / "manifest.json").read_text()
    library = place.library()
    assert add(library, "anna").path.name == "anna-2"
    assert (in_the_way / "manifest.json").read_text() == before


def test_the_number_of_voices_is_bounded(place: Place) -> None:
    library = place.library(max_voices=2)
    add(library, "anna")
    add(library, "berta")
    with pytest.raises(Conflict, match="2 voices"):
        add(library, "clara")


def test_what_ships_cannot_be_deleted(place: Place) -> None:
    library = place.library()
    for voice_id in ("narrator", "makima"):
        with pytest.raises(Forbidden):
            library.remove(voice_id)
    assert (place.shipped_dir / "narrator" / "reference.wav").exists()


def test_a_deleted_voice_is_gone_for_good(place: Place) -> None:
    library = place.library()
    path = add(library, "anna").path
    library.remove("anna")
    assert not path.exists()
    assert place.leftovers() == []
    with pytest.raises(VoiceNotFound):
        library.remove("anna")


def test_a_broken_voice_can_be_deleted(place: Place) -> None:
    (make_voice(place.voices_dir, "anna") / "manifest.json").write_text("{")
    library = place.library()
    library.remove("anna")
    assert library.find("anna") is None


def test_deleting_a_linked_voice_deletes_the_link(place: Place, tmp_path: Path) -> None:
    elsewhere = make_voice(tmp_path / "elsewhere", "anna")
    place.voices_dir.mkdir()
    (place.voices_dir / "anna").symlink_to(elsewhere)
    library = place.library()
    assert usable(library) == ["anna", "narrator"]
    library.remove("anna")
    assert usable(library) == ["narrator"]
    assert place.leftovers() == []
    assert (elsewhere / "reference.wav").exists()


def test_a_sweep_removes_what_was_left_half_done_and_nothing_else(place: Place) -> None:
    make_voice(place.voices_dir, "anna")
    (place.voices_dir / ".snapshots").mkdir()
    for leftover in (".incoming-1", ".deleted-2"):
        make_voice(place.voices_dir, leftover)
    library = place.library()
    assert usable(library) == ["anna", "narrator"]
    library.sweep()
    assert place.leftovers() == [".snapshots"]
    assert usable(library) == ["anna", "narrator"]


def test_a_sweep_of_a_folder_that_is_not_there_is_nothing(place: Place) -> None:
    place.library().sweep()
    assert not place.voices_dir.exists()


def test_a_sweep_keeps_a_voice_that_is_being_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    library = place.library()
    rename = Path.rename

    def sweep_then_rename(path: Path, target: Path) -> Path:
        library.sweep()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", sweep_then_rename)
    assert add(library, "anna").reason is None


def test_a_failed_write_leaves_no_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    library = place.library()
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(TtsUnavailable, match="No space left"):
            add(library, "anna")
    assert library.find("anna") is None
    assert place.leftovers() == []


def test_a_folder_that_cannot_be_written_says_what_the_operator_must_do(
    open_place: Place, unprivileged: None
) -> None:
    library = open_place.library()
    with pytest.raises(TtsUnavailable, match="TTS_VOICES_DIR") as failure:
        add(library, "anna")
    assert str(open_place.root) not in failure.value.message
    assert usable(library) == ["narrator"]


def test_a_voice_in_a_folder_that_cannot_be_written_stays(
    open_place: Place, request: pytest.FixtureRequest
) -> None:
    make_voice(open_place.voices_dir, "anna")
    request.getfixturevalue("unprivileged")
    library = open_place.library()
    with pytest.raises(TtsUnavailable):
        library.remove("anna")
    assert usable(library) == ["anna", "narrator"]


def test_a_file_that_may_not_be_read_is_the_voices_reason(
    open_place: Place, request: pytest.FixtureRequest
) -> None:
    for name, file in (("anna", "reference.wav"), ("berta", "manifest.json")):
        (make_voice(open_place.voices_dir, name) / file).chmod(0)
    request.getfixturevalue("unprivileged")
    library = open_place.library()
    reasons = {voice.id: voice.reason or "" for voice in library.voices()}
    assert "permissions" in reasons["anna"]
    assert "permissions" in reasons["berta"]
    assert usable(library) == ["narrator"]


def test_of_many_threads_that_add_one_voice_one_does(place: Place) -> None:
    library = place.library()

    def outcome(_: int) -> str:
        try:
            return add(library, "anna").id
        except TtsError as error:
            return error.code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(outcome, range(8))) == ["CONFLICT"] * 7 + ["anna"]
    assert usable(library) == ["anna", "narrator"]
    assert place.leftovers() == []


def test_a_clip_and_its_transcript_are_enough_for_a_voice_that_ships_without(place: Place) -> None:
    library = place.library()
    own = place.voices_dir / "makima"
    own.mkdir(parents=True)
    (own / "reference.wav").write_bytes(good_clip())
    halfway = library.find("makima")
    assert halfway is not None
    assert "transcript" in (halfway.reason or "")
    (own / "transcript.txt").write_text(TRANSCRIPT)
    found = library.find("makima")
    assert found is not None
    assert (found.reason, found.name, found.shipped) == (None, "Makima", False)


def test_another_clip_for_a_shipped_voice_does_not_inherit_its_transcript(place: Place) -> None:
    own = place.voices_dir / "narrator"
    own.mkdir(parents=True)
    (own / "reference.wav").write_bytes(good_clip(pitch_hz=200.0))
    found = place.library().find("narrator")
    assert found is not None
    assert (found.transcript, found.shipped) == (None, False)
    assert "transcript" in (found.reason or "")
