"""Starts processes in the environment of the qwen-tts package."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import write_ending_checkpoint
from tests.transport.processes import ROOT

PYTHON = ROOT / ".venvs" / "qwen-tts" / "bin" / "python"
# The package imports torchaudio only for a codec that these models do not have: an empty stub is enough.
STUBS = Path(__file__).parent / "stubs"

EnvironmentWith = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def python() -> Path:
    """That environment's Python. Without it tests are skipped, unless MAKIMA_TTS_REQUIRE_QWEN_TTS is set."""
    if not PYTHON.exists():
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_QWEN_TTS"), "`make venv-qwen-tts` is required here"
        pytest.skip("the qwen-tts package is not installed: make venv-qwen-tts")
    return PYTHON


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ending_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def environment_with() -> EnvironmentWith:
    """The environment variables of a process there, with additional ones."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    # Layers this small are slower on two threads than on one.
    ours |= {"PYTHONPATH": str(STUBS), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return lambda **variables: ours | {name: str(value) for name, value in variables.items()}
