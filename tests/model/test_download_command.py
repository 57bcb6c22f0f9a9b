"""``makima-tts download`` as a process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from makima_tts import cli
from makima_tts.errors import TtsUnavailable
from tests.checkpoints import SHAPES, write_checkpoint
from tests.model.stand_in_hub import COMMIT, MODEL, Hub, tensors, there


def test_neither_finding_nor_help_imports_torch_or_the_hub() -> None:
    script = (
        "import sys; from makima_tts.hub.download import find_on_disk; find_on_disk('a/b', None);"
        "from makima_tts import cli; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0;"
        "assert {'torch', 'huggingface_hub'}.isdisjoint(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def command(tmp_path: Path, hub: Hub) -> Callable[[], subprocess.Popen[str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    env |= {"TTS_MODEL_ID": MODEL, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "makima_tts", "download"],
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.mark.process
def test_the_command_is_killed_goes_on_and_says_where_a_checkpoint_that_opens_lies(
    command: Callable[[], subprocess.Popen[str]], hub: Hub, tmp_path: Path
) -> None:
    hub.files = there(write_checkpoint(tmp_path / "written", SHAPES["odd"]))
    # In another process pieces are 10 MiB.
    piece = 10 * 1024 * 1024
    hub.files["more.safetensors"] = tensors(100, 1) + bytes(2 * piece)
    hub.held["more.safetensors"] = piece + 1
    with command() as killed:
        assert killed.stderr is not None
        while "downloading 1" not in killed.stderr.readline():
            assert killed.poll() is None
        killed.kill()
    hub.held.clear()
    hub.asked.clear()
    with command() as done:
        out, err = done.communicate()
    assert done.returncode == 0, err
    assert [(asked.name, asked.range) for asked in hub.asked if asked.name] == [
        ("more.safetensors", f"bytes={piece}-")
    ]
    folder = Path(out.strip().splitlines()[-1].removeprefix("It lies in "))
    assert there(folder) == hub.files
    assert "Traceback" not in err


def test_a_model_that_is_not_the_settings_is_reported_with_the_setting_to_change(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hub.files = there(write_checkpoint(tmp_path / "written", SHAPES["odd"]))
    done = CliRunner().invoke(cli.app, ["download", "--model", MODEL, "--revision", COMMIT])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-2:] == [
        f"To speak with it, set TTS_MODEL_ID={MODEL}",
        f"To speak with it, set TTS_MODEL_REVISION={COMMIT}",
    ]
    monkeypatch.setenv("TTS_OFFLINE", "1")
    hub.asked.clear()
    again = CliRunner().invoke(cli.app, ["download", "--model", MODEL, "--revision", COMMIT])
    assert (again.stdout, hub.asked) == (done.stdout, [])


def test_a_complete_checkpoint_that_cannot_be_used_is_reported(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["download", "--model", MODEL])
    assert done.exit_code == 1
    assert isinstance(done.exception, TtsUnavailable)
    assert "It lies in" not in done.stdout


@pytest.mark.process
def test_the_command_fails_with_a_sentence(command: Callable[[], subprocess.Popen[str]], hub: Hub) -> None:
    hub.refusal = (403, "GatedRepo", "")
    with command() as failed:
        out, err = failed.communicate()
    assert (failed.returncode, out) == (1, "")
    assert err.splitlines()[-1].startswith("Hugging Face gives that model only to those")
    assert "Traceback" not in err
