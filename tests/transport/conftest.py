"""The toy service with a test's options; its stderr must stay empty."""

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
    """Starts toy services with a test's options; the test ends them."""
    with ExitStack() as running:
        yield lambda *options: running.enter_context(start_toy(*options)).until_listening()


@pytest.fixture(scope="module")
def shared_toy() -> Iterator[ServerProcess]:
    """One process for the tests of a module; it must exit with 0, without a log line or warning."""
    with start_toy("--stall-s", str(STALL_S)) as server:
        yield server.until_listening()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.complaints == ""


@pytest.fixture
def toy(shared_toy: ServerProcess) -> Iterator[ServerProcess]:
    """The shared process; every connection must be closed after a test."""
    before = shared_toy.open_files
    yield shared_toy
    assert eventually(lambda: shared_toy.open_files == before, within_s=LEAVE_S)
