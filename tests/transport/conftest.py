"""The toy service, started as a test wants it and held to silence: whatever happened, stderr stays empty."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.transport.processes import ServerProcess, eventually, start_toy

STALL_S = 0.5
LEAVE_S = 10.0
StartToy = Callable[..., ServerProcess]


@pytest.fixture
def start() -> Iterator[StartToy]:
    """Start toys with options of the test's choice; the test says how they end."""
    with ExitStack() as running:
        yield lambda *options: running.enter_context(start_toy(*options)).until_listening()


@pytest.fixture(scope="module")
def shared_toy() -> Iterator[ServerProcess]:
    """One process for a module's tests; it must end well, without one complaint, log line or warning."""
    with start_toy("--stall-s", str(STALL_S)) as server:
        yield server.until_listening()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.complaints == ""


@pytest.fixture
def toy(shared_toy: ServerProcess) -> Iterator[ServerProcess]:
    """The shared process; whatever a test did to it, every connection must be gone afterwards."""
    before = shared_toy.open_files
    yield shared_toy
    assert eventually(lambda: shared_toy.open_files == before, within_s=LEAVE_S)
