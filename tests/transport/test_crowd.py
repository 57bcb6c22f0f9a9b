"""A thousand idle sessions use little memory, and release it when they close."""

from contextlib import ExitStack

import pytest

from tests.transport.far_away import crowd
from tests.transport.processes import ServerProcess, eventually

pytestmark = pytest.mark.process

CONNECTIONS = 1000
PROCESSES = 4
BOUND_BYTES = 64 * 1024


def test_a_thousand_idle_connections_use_little_memory(toy: ServerProcess) -> None:
    before_files, before_bytes = toy.open_files, toy.resident_bytes
    with ExitStack() as running:
        for _ in range(PROCESSES):
            running.enter_context(crowd(toy.host, toy.port, "/echo", size=CONNECTIONS // PROCESSES))
        each_bytes = (toy.resident_bytes - before_bytes) / CONNECTIONS
        assert toy.open_files == before_files + CONNECTIONS
        print(f"{each_bytes / 1024:.1f} KiB of memory per idle connection")
        assert each_bytes < BOUND_BYTES
    assert eventually(lambda: toy.open_files == before_files, within_s=10.0)
