"""What ``voices check`` says of a voice besides its clip."""

import json
from pathlib import Path

import pytest

from makima_tts.cli.voices import SIMILARITY_AIM, similarity_advice
from makima_tts.protocol import LANGUAGES
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.cli.conftest import Done, Run
from tests.voices.conftest import make_voice


def check(run: Run, voice: str, **settings: object) -> Done:
    chosen = {"engine": "qwen3", "model_id": checkpoint_folder(ENDING), "device": "cpu", "offline": True}
    return run("voices", "check", voice, **{**chosen, **settings})


@pytest.mark.parametrize("language", ["German", "Auto"])
def test_a_voice_is_tried_in_its_language(language: str, run: Run, tmp_path: Path) -> None:
    make_voice(tmp_path / "voices", "anna", language=language)
    done = check(run, "anna")
    assert done.returncode == 0, done.stderr
    assert "sample rate hz" in done.stdout
    assert "Speaker similarity 0." in done.stdout
    assert "0.90" in done.stdout


def test_every_language_has_a_sentence() -> None:
    from makima_tts.cli.voices import _SENTENCES

    assert tuple(sorted(_SENTENCES)) == LANGUAGES


@pytest.mark.parametrize(
    ("similarity", "advised"), [(SIMILARITY_AIM, False), (SIMILARITY_AIM - 0.001, True), (-0.2, True)]
)
def test_what_falls_short_of_the_aim_comes_with_advice(similarity: float, advised: bool) -> None:
    words = similarity_advice(similarity)
    assert f"{similarity:.3f}" in words
    assert "0.90" in words
    assert ("transcript" in words) == advised


def test_where_it_cannot_be_measured_the_clip_is_reported_on_and_why(run: Run, tmp_path: Path) -> None:
    make_voice(tmp_path / "voices", "anna", transcript=None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({}))
    cases = {
        "Qwen3-TTS measures it, and the engine here is preview": {"engine": "preview"},
        "needs a transcript": {},
        "The checkpoint": {"model_id": "empty"},
    }
    for words, settings in cases.items():
        done = check(run, "anna", **settings)
        assert done.returncode == 0, done.stderr
        assert "sample rate hz" in done.stdout
        assert "No speaker similarity: " in done.stdout
        assert words in " ".join(done.stdout.split())


def test_a_voice_without_a_clip_is_refused(run: Run) -> None:
    refused = check(run, "makima")
    assert refused.returncode == 1
    assert "has no clip yet" in refused.stderr
