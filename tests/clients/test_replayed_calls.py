"""Recorded requests of Open WebUI, SillyTavern and LibreChat, and what they need from the response.

Tests do not run the programs: replayed/README.md describes the origin of the requests.
"""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.clients.audio import BLOCKS_MS, TEXT_MS, duration_ms
from tests.transport.processes import ServerProcess

pytestmark = pytest.mark.process

REPLAYED = Path(__file__).parent / "replayed"
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    media: str
    body: bytes


def answer_to(request: bytes, service: ServerProcess) -> Answer:
    with socket.create_connection((service.host, service.port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        with HTTPResponse(client) as response:
            response.begin()
            return Answer(response.status, response.headers["content-type"], response.read())


def replayed(name: str) -> bytes:
    return (REPLAYED / f"{name}.http").read_bytes()


@pytest.mark.parametrize(
    "name", ["open-webui-speech", "sillytavern-speech", "librechat-openai", "librechat-localai"]
)
def test_speech_is_an_mp3_in_full(service: ServerProcess, name: str) -> None:
    """Open WebUI stores it as .mp3 unless the type differs, the others forward it as audio/mpeg."""
    answer = answer_to(replayed(name), service)
    assert (answer.status, answer.media) == (200, "audio/mpeg")
    assert TEXT_MS <= duration_ms(answer.body, "mp3") <= TEXT_MS + BLOCKS_MS["mp3"]


def test_open_webui_lists_the_voices(service: ServerProcess) -> None:
    listed = json.loads(answer_to(replayed("open-webui-voices"), service).body)
    assert {voice["id"]: voice["name"] for voice in listed["voices"]}["narrator"] == "Narrator"


def test_open_webui_lists_the_models(service: ServerProcess) -> None:
    listed = json.loads(answer_to(replayed("open-webui-models"), service).body)
    assert {"tts-1", "gpt-4o-mini-tts"} <= {model["id"] for model in listed["models"]}


def test_an_unknown_voice_has_a_status_that_open_webui_shows(service: ServerProcess) -> None:
    """Open WebUI passes the status to its page, not the body."""
    request = replayed("open-webui-speech").replace(
        b'"alloy"', b'"robot"'
    )  # of the same length, so that Content-Length stays valid
    assert answer_to(request, service).status == 404
