"""What Open WebUI, SillyTavern and LibreChat send, byte for byte, and what they need of the answer.

The programs are not run: replayed/README.md says where their requests come from.
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
    """Open WebUI keeps it as .mp3 unless the type says otherwise, the others pass it on as audio/mpeg."""
    answer = answer_to(replayed(name), service)
    assert (answer.status, answer.media) == (200, "audio/mpeg")
    assert TEXT_MS <= duration_ms(answer.body, "mp3") <= TEXT_MS + BLOCKS_MS["mp3"]


def test_open_webui_can_offer_the_voices(service: ServerProcess) -> None:
    listed = json.loads(answer_to(replayed("open-webui-voices"), service).body)
    assert {voice["id"]: voice["name"] for voice in listed["voices"]}["narrator"] == "Narrator"


def test_open_webui_can_offer_the_models(service: ServerProcess) -> None:
    listed = json.loads(answer_to(replayed("open-webui-models"), service).body)
    assert {"tts-1", "gpt-4o-mini-tts"} <= {model["id"] for model in listed["models"]}


def test_open_webui_can_show_what_was_wrong(service: ServerProcess) -> None:
    """It looks for ``error.message`` in a JSON body and shows it to the user."""
    request = replayed("open-webui-speech").replace(
        b'"alloy"', b'"robot"'
    )  # as long, so that the length holds
    answer = answer_to(request, service)
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["message"].startswith("There is no voice robot here")
