"""The commands, as a person runs them, in a folder of their own."""

import json
import socket
from pathlib import Path

import pytest
import soundfile

from makima_tts import factory
from tests.cli.conftest import Run
from tests.sentences import SENTENCES
from tests.transcribe import transcribe, word_error_rate
from tests.transport.processes import ServerProcess

# What it says where there is no checkpoint, and none may be downloaded.
NO_QWEN3 = "it lacks" if factory.missing_packages(factory.QWEN3_PACKAGES) else "TTS_OFFLINE forbids"
NARRATOR = Path(__file__).parents[2] / "voices" / "narrator"


@pytest.mark.parametrize("command", ["", "serve", "say", "voices", "voices add", "download", "doctor"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert done.stderr == ""


def test_say_starts_a_server_when_none_runs_and_writes_what_was_asked(run: Run, tmp_path: Path) -> None:
    done = run("say", SENTENCES[0], "--out", "said.wav", engine="preview", port=_free_port())
    assert done.returncode == 0, done.stderr
    pcm, rate_hz = soundfile.read(tmp_path / "said.wav", dtype="float32")
    assert word_error_rate(SENTENCES[0], transcribe(pcm, rate_hz)) <= 0.1
    assert done.stderr == ""


def test_say_speaks_through_the_server_that_is_named(
    run: Run, tmp_path: Path, scripted_service: ServerProcess
) -> None:
    done = run("say", "Hello there.", "--url", scripted_service.url)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "speech.wav").frames == 9 * 1920


def test_say_speaks_in_this_process_when_an_engine_is_named(run: Run, tmp_path: Path) -> None:
    done = run("say", "Hello there.", "--engine", "scripted", "-o", "tone.wav")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "tone.wav").frames == 9 * 1920


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["say", "...", "--engine", "preview"], "nothing to speak"),
        (["say", "\u041f\u0440\u0438\u0432\u0435\u0442.", "--engine", "preview"], "Cyrillic"),
        (["say", "Hello.", "--engine", "qwen3"], NO_QWEN3),
        (["say", "Hello.", "--engine", "espeak"], "TTS_ENGINE"),
        (["say", "Hello.", "--model", "some/folder"], NO_QWEN3),
        (["say", "Hello.", "--engine", "scripted", "--language", "Klingon"], "no language"),
        (["say", "Hello.", "--url", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["say", "Hello.", "--engine", "scripted", "--voice", "nobody"], "nobody"),
        (["voices", "remove", "nobody"], "no such voice"),
        (["voices", "remove", "narrator"], "comes with the service"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_sentence_and_no_traceback(
    run: Run, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-models"))
    done = run(*arguments, offline=True)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prot": 1}, "Unknown setting TTS_PROT. Did you mean TTS_PORT?"),
        ({"port": "x"}, "TTS_PORT"),
        ({"precision": "fp8"}, "TTS_PRECISION"),
    ],
    ids=str,
)
def test_serve_refuses_settings_that_make_no_sense(run: Run, settings: dict[str, object], words: str) -> None:
    done = run("serve", **settings)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_voices_are_added_checked_listed_and_removed(run: Run) -> None:
    clip = str(NARRATOR / "reference.wav")
    transcript = json.loads((NARRATOR / "manifest.json").read_text())["transcript"]
    described = ("--name", "Anna B", "--transcript", transcript)
    added = run("voices", "add", clip, *described, engine="scripted")
    assert added.returncode == 0, added.stderr
    assert "anna-b" in added.stdout
    listed = run("voices", "list", engine="scripted").stdout
    assert {"anna-b", "makima", "narrator"} <= set(listed.split())
    assert "sample rate" in run("voices", "check", "anna-b", engine="scripted").stdout
    assert run("voices", "remove", "anna-b").returncode == 0
    assert "anna-b" not in run("voices", "list", engine="scripted").stdout


def test_doctor_says_which_engine_and_why_and_what_is_in_the_way(run: Run) -> None:
    port = _free_port()
    done = run("doctor", port=port)
    assert done.returncode == 0, done.stdout
    assert "preview" in done.stdout
    assert "lacks" in done.stdout
    with socket.create_server(("127.0.0.1", port)):
        taken = run("doctor", port=port)
    assert taken.returncode == 1
    assert "is in use" in taken.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_what_a_manifest_holds_is_shown_as_it_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "voices" / "odd"
    folder.mkdir(parents=True)
    manifest = {"id": "odd", "name": "Bob [/red] x", "reference_audio": "reference.wav"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "Bob [/red] x" in run("voices", "list", engine="scripted").stdout
    monkeypatch.setattr(factory, "QWEN3_PACKAGES", ("no_such_package",))
    assert "makima-tts[qwen3]" in run("doctor", port=_free_port()).stdout
