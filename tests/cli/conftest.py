"""The console script, run in a folder of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from makima_tts import cli


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    """Runs the console script with these arguments and settings."""

    def __call__(self, *arguments: str, **settings: object) -> Done: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """In this process: a new one for every command would take a second each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def once(*arguments: str, **settings: object) -> Done:
        with monkeypatch.context() as during:
            for name, value in settings.items():
                during.setenv(f"TTS_{name.upper()}", str(value))
            during.setattr(sys, "argv", ["makima-tts", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, err = capsys.readouterr()
        # sys.exit with a sentence prints it and exits with 1, as the interpreter does.
        code = ended.value.code
        return Done(1, out, f"{err}{code}\n") if isinstance(code, str) else Done(int(code or 0), out, err)

    return once
