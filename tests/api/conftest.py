"""A service in the test's own loop."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from makima_tts.speech import SpeechEngine
from tests.api.service import RunningService, running


class Run(Protocol):
    """Starts a service with these settings and this engine."""

    def __call__(
        self, engine: SpeechEngine | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[RunningService]: ...


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return lambda engine=None, **settings: running(tmp_path, engine, **settings)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service with the scripted engine and the default settings, ready to speak."""
    async with running(tmp_path) as one:
        await one.until_ready()
        yield one
