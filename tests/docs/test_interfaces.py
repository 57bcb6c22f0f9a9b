"""The machine-readable interface descriptions are valid and match the messages on the wire."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from openapi_spec_validator import validate

from makima_tts import __version__
from makima_tts.engines import ScriptedEngine
from makima_tts.factory import build_app, build_service
from makima_tts.protocol import asyncapi_document
from makima_tts.settings import Settings
from tests.api.recording import CONVERSATIONS, Line, read

NODE = Path(__file__).parent / "node"
SOCKET = asyncapi_document(__version__)


# The fields, with their types, that the makima server's own message types read.
MAKIMA_SERVER_READS: dict[str, dict[str, type]] = {
    "ready": {"voiceLoaded": bool, "capabilities": dict},
    "audioChunk": {"data": str, "isFinal": bool, "timestamp": float, "timestampMs": int},
    "complete": {"durationMs": int, "totalChunks": int, "textLength": int},
    "error": {"code": str, "message": str},
    "stopped": {},
    "started": {"sampleRate": int, "encoding": str, "voice": str, "language": str},
}


def spoken(direction: str) -> list[dict[str, Any]]:
    """Every recorded message of the client, or of the server."""
    lines: list[Line] = [line for path in sorted(CONVERSATIONS.glob("*.jsonl")) for line in read(path)]
    return [line[direction] for line in lines if direction in line]


def schema_of(message: dict[str, Any]) -> dict[str, Any] | None:
    described = SOCKET["components"]["messages"].get(message["type"])
    return None if described is None else {**described["payload"], "components": SOCKET["components"]}


def faults(message: dict[str, Any]) -> list[str]:
    schema = schema_of(message)
    if schema is None:
        return [f"no message {message['type']}"]
    return [fault.message for fault in Draft7Validator(schema).iter_errors(message)]


async def test_openapi_is_valid(tmp_path: Path) -> None:
    settings = Settings(voices_dir=tmp_path / "voices", cache_dir=tmp_path / "cache")
    app = build_app(settings, build_service(settings, ScriptedEngine()))
    validate(app.openapi())


def test_asyncapi_is_valid_to_its_own_parser() -> None:
    if not (NODE / "node_modules").is_dir():
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_NODE"), "run `make node`"
        pytest.skip("`make node` installs AsyncAPI's parser")
    told = subprocess.run(
        ["node", "validate.mjs"],
        cwd=NODE,
        input=json.dumps(SOCKET),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == {"valid": True, "faults": []}


def test_every_recorded_server_message_matches_its_schema() -> None:
    for message in spoken("server"):
        steady = {**message, "sessionId": "0"} if "sessionId" in message else message
        assert faults(steady) == [], message["type"]


def test_the_makima_servers_conversations_match_its_types() -> None:
    lines = [line for path in sorted(CONVERSATIONS.glob("*-makima-server*")) for line in read(path)]
    heard = [line["server"] for line in lines if "server" in line]
    assert {message["type"] for message in heard} == set(MAKIMA_SERVER_READS)
    for message in heard:
        for name, kind in MAKIMA_SERVER_READS[message["type"]].items():
            assert type(message[name]) is kind, (message["type"], name)


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        ({"type": "speak", "text": "Hello."}, True),
        ({"type": "speak", "text": "Hello.", "priority": None, "utteranceId": None, "voice": None}, True),
        ({"type": "start", "voice": "makima", "authToken": None, "something": "new"}, True),
        ({"type": "speak"}, False),
        ({"type": "speak", "text": "Hello.", "priority": "urgent"}, False),
        ({"type": "start", "sampleRate": 12345}, False),
    ],
)
def test_the_schemas_accept_valid_client_messages_only(message: dict[str, Any], fits: bool) -> None:
    assert (faults(message) == []) is fits


def test_every_valid_recorded_client_message_matches_its_schema() -> None:
    refused = [message for message in spoken("client") if faults(message)]
    assert [message["type"] for message in refused] == ["dance", "start"]
