"""A thousand sessions that say nothing cost little, and cost nothing once they have gone."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.transport.processes import ServerProcess, eventually

pytestmark = pytest.mark.process

CONNECTIONS = 1000
PROCESSES = 4
BOUND_BYTES = 64 * 1024


def test_a_thousand_idle_connections_are_cheap(toy: ServerProcess) -> None:
    before_files, before_bytes = toy.open_files, toy.resident_bytes
    share = CONNECTIONS // PROCESSES
    crowd = [sys.executable, "-m", "tests.transport.crowd", toy.host, str(toy.port), "/echo", str(share)]
    with ExitStack() as running:
        clients = [
            running.enter_context(
                subprocess.Popen(crowd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(PROCESSES)
        ]
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == f"open {share}\n"
        each_bytes = (toy.resident_bytes - before_bytes) / CONNECTIONS
        assert toy.open_files == before_files + CONNECTIONS
        print(f"{each_bytes / 1024:.1f} KiB of memory per idle connection")
        assert each_bytes < BOUND_BYTES
        for client in clients:
            assert client.stdin is not None
            client.stdin.close()
    assert eventually(lambda: toy.open_files == before_files, within_s=10.0)
