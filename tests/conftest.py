"""What every suite shares: time budgets, and the real service in a process of its own."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.budgets import SuiteBudgets
from tests.transport.processes import ServerProcess


def pytest_configure(config: pytest.Config) -> None:
    """Every run is held to the budgets, whichever part of the tests it runs."""
    config.pluginmanager.register(SuiteBudgets())


class Serve(Protocol):
    """Starts ``makima-tts serve`` with these settings (``engine="scripted"``), returns once it listens."""

    def __call__(self, *, port: int = 0, **settings: object) -> ServerProcess: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Real server processes on free ports, with folders of their own; killed at the end."""
    with ExitStack() as processes:

        def start(*, port: int = 0, **settings: object) -> ServerProcess:
            folders = {"voices_dir": tmp_path / "voices", "cache_dir": tmp_path / "cache"}
            chosen = {"engine": "scripted", **folders, **settings}
            env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
            env |= {f"TTS_{name.upper()}": str(value) for name, value in chosen.items()}
            command = [sys.executable, "-m", "makima_tts", "serve", "--port", str(port)]
            return processes.enter_context(ServerProcess(command, env=env)).until_listening()

        yield start
