"""A scripted engine, started."""

from collections.abc import AsyncIterator

import pytest

from makima_tts.engines import ScriptedEngine


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    await scripted.start(lambda *_: None)
    yield scripted
    await scripted.close()
