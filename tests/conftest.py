"""What every suite shares: time budgets, and the real service in a process of its own."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
import structlog

from tests.budgets import SuiteBudgets
from tests.transport.processes import ServerProcess

# Layers as small as those of our checkpoints are slower on two threads than on one, here and in every process
# that is started. Read when torch is imported, which nothing has done yet.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Exact where tests compare with the reference; servers of their own are started with the defaults.
os.environ.setdefault("TTS_CPU_PRECISION", "fp32")
# A worker of pytest-xdist is told how wide the terminal is, and rich would hold to that from its import on.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)
# Without a GPU its kernels are interpreted, which is settled when they are imported.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Every run is held to the budgets, whichever part of the tests it runs."""
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers report to who adds up
        config.pluginmanager.register(SuiteBudgets())
    # By itself structlog shows the values of all variables below a traceback: of tensors, that takes seconds.
    *before, _renderer = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, plain])


class Serve(Protocol):
    """Starts ``makima-tts serve`` with these settings (``engine="scripted"``), returns once it listens."""

    def __call__(self, *, port: int = 0, **settings: object) -> ServerProcess: ...


def service_process(folder: Path, *, port: int = 0, **settings: object) -> ServerProcess:
    """``makima-tts serve`` with these settings, its voices and cache in ``folder``; not started yet."""
    folders = {"voices_dir": folder / "voices", "cache_dir": folder / "cache"}
    chosen = {"engine": "scripted", **folders, **settings}
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    env |= {f"TTS_{name.upper()}": str(value) for name, value in chosen.items()}
    return ServerProcess([sys.executable, "-m", "makima_tts", "serve", "--port", str(port)], env=env)


@pytest.fixture(scope="session")
def scripted_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that plays scripts, for tests that need no settings of their own and leave nothing behind."""
    with service_process(tmp_path_factory.mktemp("service")) as process:
        yield process.until_listening()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Real server processes on free ports, with folders of their own; killed at the end."""
    with ExitStack() as processes:

        def start(*, port: int = 0, **settings: object) -> ServerProcess:
            process = service_process(tmp_path, port=port, **settings)
            return processes.enter_context(process).until_listening()

        yield start
