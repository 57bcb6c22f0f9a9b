"""The unmodified openai package for Node against a server process."""

import base64
import shutil
from pathlib import Path

import pytest

from tests.clients.audio import BLOCKS_MS, MEDIA, TEXT_MS, duration_ms
from tests.clients.conftest import CLIP, Seen, required_or_skipped, seen_by
from tests.clients.gauges import falls_silent
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def seen(service: ServerProcess) -> Seen:
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        required_or_skipped("make node", "Node or its openai package is not installed")
    return seen_by(["node", "speaking.mjs", service.url, str(CLIP)], NODE)


@pytest.mark.parametrize("name", MEDIA)
def test_every_format_is_streamed_in_full(seen: Seen, name: str) -> None:
    answer = seen["formats"][name]
    assert answer["media"] == MEDIA[name]
    assert TEXT_MS <= duration_ms(base64.b64decode(answer["audio"]), name) <= TEXT_MS + BLOCKS_MS.get(name, 0)


def test_events_carry_the_same_audio(seen: Seen) -> None:
    *deltas, done = seen["events"]
    assert done["type"] == "speech.audio.done"
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert audio == base64.b64decode(seen["formats"]["pcm"]["audio"])


def test_a_voice_is_added_used_and_deleted(seen: Seen) -> None:
    voice = seen["voice"]
    assert (voice["made"]["id"], voice["made"]["object"]) == ("nora", "audio.voice")
    assert voice["bytes"] > 0
    assert voice["deleted"] == {"id": "nora", "object": "audio.voice.deleted", "deleted": True}


def test_models_are_listed(seen: Seen) -> None:
    assert {"tts-1", "gpt-4o-mini-tts"} <= set(seen["models"])


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        ("foreign text", ("BadRequestError", 400, "INVALID_TEXT", "input")),
        ("unknown voice", ("NotFoundError", 404, "VOICE_NOT_FOUND", "voice")),
        ("broken engine", ("InternalServerError", 500, "SYNTHESIS_ERROR", None)),
    ],
)
def test_errors_are_the_packages_own(
    seen: Seen, case: str, failure: tuple[str, int, str, str | None]
) -> None:
    assert tuple(seen[case].values()) == failure


def test_a_disconnect_frees_the_slot(seen: Seen, service: ServerProcess) -> None:
    assert seen["leaving"] > 0
    assert falls_silent(f"{service.host}:{service.port}")
