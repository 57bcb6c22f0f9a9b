"""A voice is found by its id, and by what people and programs take for it."""

import pytest

from makima_tts.errors import VoiceNotFound
from tests.voices.conftest import Place, WatchedEngine, make_voice


def test_case_suffix_and_a_unique_name_find_a_voice(place: Place) -> None:
    make_voice(place.voices_dir, "anna", name="Anna Maria")
    make_voice(place.voices_dir, "lukasz", name="Łukasz")
    manager = place.manager(WatchedEngine())
    for sent in ("anna", "ANNA", "Anna.wav", " anna.MP3", "Anna Maria", "anna-maria", "ANNA MARIA.flac"):
        assert manager.describe(sent).id == "anna", sent
    for sent in ("Łukasz", "łukasz.wav", "LUKASZ"):
        assert manager.describe(sent).id == "lukasz", sent
    for sent in ("ann", "anna.exe", "", ".wav", "../anna", "a" * 20_000):
        with pytest.raises(VoiceNotFound):
            manager.describe(sent)


def test_a_name_of_several_voices_is_refused_with_their_ids(place: Place) -> None:
    make_voice(place.voices_dir, "anna-1", name="Anna")
    make_voice(place.voices_dir, "anna-2", name="anna")
    with pytest.raises(VoiceNotFound, match="anna-1, anna-2"):
        place.manager(WatchedEngine()).describe("Anna")
    make_voice(place.voices_dir, "anna", name="Other")
    assert place.manager(WatchedEngine()).describe("Anna").id == "anna"


async def test_a_voice_is_deleted_by_its_id_alone(place: Place) -> None:
    make_voice(place.voices_dir, "anna", name="Anna Maria")
    manager = place.manager(WatchedEngine())
    with pytest.raises(VoiceNotFound):
        await manager.delete("Anna Maria")
    assert manager.describe("anna").available
