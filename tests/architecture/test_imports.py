"""What must not be imported where; import-linter holds the layers, this holds what it cannot see."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, reached_from

IMPURE = {"asyncio", "threading", "time", "random", "fastapi", "starlette", "torch", "numpy"}
# Pure code is given what it needs; these are words and shapes, and pydantic to check them.
PURE = {
    "base64",
    "bisect",
    "codecs",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "html",
    "itertools",
    "json",
    "math",
    "makima_tts",
    "pydantic",
    "re",
    "string",
    "typing",
    "unicodedata",
}


@pytest.mark.parametrize("package", ["protocol", "session", "text"])
def test_the_conversation_is_pure_even_indirectly(package: str) -> None:
    reached = reached_from(f"{PACKAGE}.{package}")
    assert len(reached) > 1
    assert {name: by for name, by in reached.items() if name.split(".")[0] in IMPURE} == {}
    assert {name: by for name, by in reached.items() if name.split(".")[0] not in PURE} == {}


def test_the_client_reaches_nothing_of_ours_but_the_language_on_the_wire() -> None:
    ours = {name for name in reached_from(f"{PACKAGE}.client") if name.startswith(f"{PACKAGE}.")}
    assert {name.split(".")[1] for name in ours} == {"client", "errors", "protocol"}


@pytest.mark.parametrize(
    "command",
    [["-c", "import makima_tts"], ["-m", "makima_tts", "--help"], ["-c", "import makima_tts.factory"]],
)
def test_starting_imports_neither_torch_nor_ffmpeg(command: list[str], tmp_path: Path) -> None:
    """Ones that give themselves away stand in, so that the test can fail where none is installed."""
    for name in ("torch", "av"):
        (tmp_path / f"{name}.py").write_text("print('it was imported')\n")
    ran = subprocess.run(
        [sys.executable, *command],
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it was imported" not in ran.stdout
