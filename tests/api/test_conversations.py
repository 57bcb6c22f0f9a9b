"""The conversations that the docs show, played against the service: the server says the same again."""

from pathlib import Path

import pytest

from tests.api.recording import CONVERSATIONS, play, read
from tests.api.service import RunningService


@pytest.mark.parametrize("path", sorted(CONVERSATIONS.glob("*.jsonl")), ids=lambda path: path.stem)
async def test_a_recorded_conversation_goes_the_same_way_again(service: RunningService, path: Path) -> None:
    lines = read(path)
    assert await play(service, lines) == lines


def test_there_are_conversations() -> None:
    assert len(list(CONVERSATIONS.glob("*.jsonl"))) >= 8
