"""Starts processes in the environment of the third-party clients."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.conftest import service_process
from tests.transport.processes import ROOT, ServerProcess, eventually

PYTHON = ROOT / ".venvs" / "real-clients" / "bin" / "python"
CLIP = ROOT / "voices" / "narrator" / "reference.wav"
PATIENCE_S = 90

Seen = dict[str, Any]
RunClient = Callable[..., Seen]


@pytest.fixture(scope="session")
def service(scripted_service: ServerProcess) -> ServerProcess:
    """A service that is ready; other tests cover requests before that."""
    return until_ready(scripted_service)


@pytest.fixture(scope="session")
def hasty_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service that closes a text after a short pause."""
    with service_process(tmp_path_factory.mktemp("hasty"), text_stall_s=0.1) as service:
        yield until_ready(service.until_listening())


def until_ready(service: ServerProcess, within_s: float = 20) -> ServerProcess:
    def is_ready() -> bool:
        with suppress(HTTPError), urlopen(f"http://{service.host}:{service.port}/ready"):
            return True
        return False

    assert eventually(is_ready, within_s=within_s)
    return service


def required_or_skipped(remedy: str, lacking: str) -> None:
    """Without a client its tests are skipped, unless MAKIMA_TTS_REQUIRE_CLIENTS is set."""
    assert not os.environ.get("MAKIMA_TTS_REQUIRE_CLIENTS"), f"`{remedy}` is required here: {lacking}"
    pytest.skip(f"{lacking}: {remedy}")


@pytest.fixture(scope="session")
def run_client() -> RunClient:
    """Runs a module of this folder in the environment of pipecat and livekit, and returns its output."""
    if not PYTHON.exists():
        required_or_skipped("make venv-real-clients", "pipecat and livekit are not installed")

    def run(module: str, *services: ServerProcess) -> Seen:
        hosts = [f"{service.host}:{service.port}" for service in services]
        command = [str(PYTHON), "-m", f"tests.clients.{module}", *hosts]
        return seen_by(command, ROOT)

    return run


def seen_by(command: list[str], folder: Path) -> Seen:
    """The JSON output of a process; it must exit with 0."""
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ran.returncode == 0, ran.stderr
    seen: Seen = json.loads(ran.stdout)
    return seen
