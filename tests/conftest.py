"""Shared by all suites: time budgets, and the real service in its own process."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog

from tests.budgets import SuiteBudgets
from tests.transport.processes import ServerProcess

# The small layers of the test checkpoints are slower on two threads than on one, here and in every started
# process. torch reads this at its import, which has not happened yet.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Exact precision where tests compare with the reference; separate servers start with the defaults.
os.environ.setdefault("TTS_CPU_PRECISION", "fp32")
# pytest-xdist tells its workers the width of the terminal, and rich would use it from its import on.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)
# Without a GPU the Triton kernels run in the interpreter, which is decided at their import.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Applies the budgets to every run."""
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist report to the controller
        config.pluginmanager.register(SuiteBudgets())
    # By default structlog prints all local variables of a traceback, which takes seconds for tensors.
    *before, _renderer = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before, plain])
    # A command that runs in this process would cache loggers, and ``capture_logs`` misses what those log.
    structlog.configure = partial(_configure_uncached, structlog.configure)


def _configure_uncached(configure: Callable[..., None], **options: Any) -> None:
    configure(**{**options, "cache_logger_on_first_use": False})


class Serve(Protocol):
    """Starts ``makima-tts serve`` with these settings (``engine="scripted"``), returns once it listens."""

    def __call__(self, *, port: int = 0, **settings: object) -> ServerProcess: ...


def service_process(folder: Path, *, port: int = 0, **settings: object) -> ServerProcess:
    """``makima-tts serve`` with these settings and its voices and cache in ``folder``; not started yet."""
    folders = {"voices_dir": folder / "voices", "cache_dir": folder / "cache"}
    chosen = {"engine": "scripted", **folders, **settings}
    env = {name: value for name, value in os.environ.items() if not name.startswith("TTS_")}
    env |= {f"TTS_{name.upper()}": str(value) for name, value in chosen.items()}
    return ServerProcess([sys.executable, "-m", "makima_tts", "serve", "--port", str(port)], env=env)


@pytest.fixture(scope="session")
def scripted_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service with the scripted engine, for tests that need no own settings and leave no state."""
    with service_process(tmp_path_factory.mktemp("service")) as process:
        yield process.until_listening()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Real server processes on free ports, with their own folders; killed at the end."""
    with ExitStack() as processes:

        def start(*, port: int = 0, **settings: object) -> ServerProcess:
            process = service_process(tmp_path, port=port, **settings)
            return processes.enter_context(process).until_listening()

        yield start
