"""Voice folders: valid ones, and every kind of fault."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from makima_tts.audio import Clip
from makima_tts.errors import VoiceNotFound
from makima_tts.voices.library import (
    VoiceFolder,
    open_clip,
    read_folder,
    read_reference,
)
from makima_tts.voices.names import is_voice_id, voice_id_of
from tests.audio.recordings import recorded
from tests.voices.clips import TRANSCRIPT, good_clip, sound_file, speech
from tests.voices.conftest import make_voice


def read(path: Path) -> VoiceFolder:
    return read_folder(path, shipped=False)


def reason(path: Path) -> str:
    found = read(path).reason
    assert found is not None
    return found


def test_a_full_manifest_is_read(tmp_path: Path) -> None:
    folder = read(
        make_voice(
            tmp_path,
            "anna",
            name="Anna",
            description="Warm.",
            language="en-GB",
            accent="Scottish",
            sample_rate=24000,
            format="wav",
            model_backend="qwen3",
            notes="n",
            mode="icl",
            consent="She agreed.",
            unknown={"kept": "out"},
        )
    )
    assert (folder.id, folder.name, folder.transcript, folder.reason) == ("anna", "Anna", TRANSCRIPT, None)
    assert folder.manifest is not None
    assert folder.manifest.language == "English"


def test_null_and_empty_mean_absent(tmp_path: Path) -> None:
    folder = read(make_voice(tmp_path, "anna", name=None, language="", mode=None, sample_rate=None))
    assert (folder.name, folder.reason) == ("anna", None)


def test_the_older_names_are_read(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna", transcript=None)
    (folder / "manifest.json").rename(folder / "metadata.json")
    (folder / "transcript.json").write_text(json.dumps({"text": "Older words."}))
    assert (read(folder).transcript, read(folder).reason) == ("Older words.", None)


@pytest.mark.parametrize(
    "written", ['"Some words."', '{"text": "Some words."}', '{"transcript": "Some words.", "language": "en"}']
)
def test_a_transcript_in_json_is_a_text_or_holds_one(tmp_path: Path, written: str) -> None:
    folder = make_voice(tmp_path, "anna", transcript=None)
    (folder / "transcript.json").write_text(written)
    assert read(folder).transcript == "Some words."


def test_a_transcript_of_its_own_wins_over_older_ones_and_the_manifest(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna", transcript="From the manifest.")
    (folder / "transcript.json").write_text('"From the older file."')
    assert read(folder).transcript == "From the older file."
    (folder / "transcript.txt").write_text("\ufeffFrom its own file.\r\n", encoding="utf-8")
    assert read(folder).transcript == "From its own file."


def test_a_voice_without_transcript_can_go_by_sound_alone(tmp_path: Path) -> None:
    assert "transcript.txt" in reason(make_voice(tmp_path, "anna", transcript=None))
    assert read(make_voice(tmp_path, "berta", transcript=None, mode="xvector")).reason is None


def test_a_voice_without_clip_says_what_to_put_where(tmp_path: Path) -> None:
    why = reason(make_voice(tmp_path, "anna", clip=b""))
    assert "reference.wav" in why
    assert "transcript.txt" in why


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("", "manifest.json"),
        ("{", "manifest.json"),
        ("[]", "manifest.json"),
        ("[" * 100_000, "manifest.json is larger"),
        ("[" * 10_000, "manifest.json"),
        ('{"id": "anna"}', "reference_audio is missing"),
        ('{"id": "Anna", "reference_audio": "a.wav"}', "a-z"),
        ('{"id": "anna\\n", "reference_audio": "a.wav"}', "a-z"),
        ('{"id": 7, "reference_audio": "a.wav"}', "id: "),
        ('{"id": "anna", "reference_audio": "../a.wav"}', "own folder"),
        ('{"id": "anna", "reference_audio": "/etc/passwd"}', "own folder"),
        ('{"id": "anna", "reference_audio": ".."}', "own folder"),
        ('{"id": "anna", "reference_audio": "a\\\\b.wav"}', "own folder"),
        ('{"id": "anna", "reference_audio": "a\\u0000.wav"}', "own folder"),
        ('{"id": "anna", "reference_audio": "a.wav", "language": "Klingon"}', "one of Chinese"),
        ('{"id": "anna", "reference_audio": "a.wav", "mode": "magic"}', "'icl' or 'xvector'"),
    ],
)
def test_a_broken_manifest_says_what_is_wrong_with_it(tmp_path: Path, manifest: str, words: str) -> None:
    folder = make_voice(tmp_path, "anna")
    (folder / "manifest.json").write_text(manifest)
    assert words in reason(folder)
    assert str(tmp_path) not in reason(folder)


def test_a_folder_without_manifest_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "My Voice!"
    folder.mkdir()
    assert (read(folder).id, reason(folder)) == ("my-voice", "manifest.json is missing.")


@pytest.mark.parametrize(("name", "content"), [("transcript.txt", b"\xff\xfe"), ("transcript.json", b"[1]")])
def test_a_transcript_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = make_voice(tmp_path, "anna")
    (folder / name).write_bytes(content)
    assert name in reason(folder)


def test_a_transcript_is_bounded(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna")
    (folder / "transcript.txt").write_text("a" * 2001)
    assert "longer than 2000" in reason(folder)


@pytest.mark.parametrize("clip", [b"not sound", sound_file(speech(4.0), kind="AU")])
def test_a_clip_that_is_no_sound_file_is_found_before_it_is_asked_for(tmp_path: Path, clip: bytes) -> None:
    assert "Allowed: WAV, AIFF" in reason(make_voice(tmp_path, "anna", clip=clip))


def test_a_recording_of_a_phone_can_be_put_into_a_folder(tmp_path: Path) -> None:
    folder = read(make_voice(tmp_path, "anna", clip=recorded("ipod", "aac", 44_100)))
    assert folder.reason is None
    with open_clip(folder) as clip:
        assert read_reference(folder, clip).pcm.size == pytest.approx(5 * 44_100, rel=0.02)


@pytest.mark.parametrize("as_what", ["file", "folder"])
def test_a_clip_outside_of_the_folder_is_not_read(tmp_path: Path, as_what: str) -> None:
    secret = tmp_path / "elsewhere" / "secret.wav"
    secret.parent.mkdir()
    secret.write_bytes(good_clip())
    folder = make_voice(tmp_path, "anna", clip=b"")
    (folder / "reference.wav").symlink_to(secret if as_what == "file" else secret.parent)
    assert "leads out" in reason(folder)


def test_a_link_to_a_clip_in_the_same_folder_is_fine(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna")
    (folder / "reference.wav").rename(folder / "take-3.wav")
    (folder / "reference.wav").symlink_to("take-3.wav")
    assert read(folder).reason is None


def test_a_link_that_leads_to_itself_is_a_reason(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna", clip=b"")
    (folder / "reference.wav").symlink_to("reference.wav")
    assert "cannot be read" in reason(folder)


def test_a_pipe_or_folder_instead_of_a_file_does_not_block(tmp_path: Path) -> None:
    folder = make_voice(tmp_path, "anna", clip=b"")
    os.mkfifo(folder / "reference.wav")
    os.mkfifo(folder / "transcript.txt")
    assert reason(folder) == "reference_audio is not a file."
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    assert reason(folder) == "manifest.json is missing."


def test_the_reference_has_the_clip_and_transcript_of_the_folder(tmp_path: Path) -> None:
    folder = read(make_voice(tmp_path, "anna", clip=sound_file(speech(4.0, 16_000), 16_000)))
    with open_clip(folder) as clip:
        reference = read_reference(folder, clip)
    assert Clip(reference.pcm, reference.sample_rate_hz).duration_s == 4.0
    assert (reference.transcript, reference.language, reference.mode) == (TRANSCRIPT, "Auto", "icl")


def test_a_clip_that_vanished_is_no_clip(tmp_path: Path) -> None:
    folder = read(make_voice(tmp_path, "anna"))
    (folder.path / "reference.wav").unlink()
    with pytest.raises(VoiceNotFound, match="no clip"):
        open_clip(folder)


@pytest.mark.parametrize(
    ("fields", "voice_id"), [({}, "lukasz"), ({"name": "Łukasz B."}, "lukasz-b"), ({"id": "luke"}, "luke")]
)
def test_without_an_id_it_is_made_of_the_name(tmp_path: Path, fields: dict[str, str], voice_id: str) -> None:
    folder = make_voice(tmp_path, "Łukasz")
    (folder / "manifest.json").write_text(
        json.dumps({"reference_audio": "reference.wav", "transcript": TRANSCRIPT} | fields)
    )
    assert (read(folder).id, read(folder).reason) == (voice_id, None)


@given(st.text())
def test_the_id_of_any_name_is_valid_or_empty(name: str) -> None:
    voice_id = voice_id_of(name)
    assert voice_id == "" or is_voice_id(voice_id)


@pytest.mark.parametrize(
    ("name", "voice_id"),
    [
        ("Anna", "anna"),
        ("Anna (2nd take)", "anna-2nd-take"),
        ("Zoë_b", "zoe_b"),
        ("../../etc/passwd", "etc-passwd"),
        ("Łukasz", "lukasz"),
        ("マキマ", "makima"),
        ("真紀真", "zhenjizhen"),
        ("Зоя", "zoya"),
        ("김철수", "gimcheolsu"),
        ("ｆｕｌｌ", "full"),  # noqa: RUF001
        ("😀", "grinning"),
        ("…!", ""),
        ("", ""),
        ("-" * 80 + "a" * 80, "a" * 64),
    ],
)
def test_ids_are_derived_from_names(name: str, voice_id: str) -> None:
    assert voice_id_of(name) == voice_id
