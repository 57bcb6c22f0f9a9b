"""Pages of other origins in Chromium, and the speak page behind nginx."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from tests.conftest import service_process
from tests.nginx import Nginx, nginx_before
from tests.page.speak_page import SpeakPage
from tests.transport.processes import ServerProcess

# Statuses, readable headers and bodies of requests that need a preflight, and the first message of a socket;
# "refused" where the browser keeps the answer from the page.
_USE = """
async (address) => {
  const ask = async (method, path, body, headers) => {
    const response = await fetch(address + path, { method, body, headers }).catch(() => null);
    if (response === null) return "refused";
    const requestId = response.headers.get("x-request-id") !== null;
    const json = response.headers.get("content-type").includes("json");
    const content = json ? (await response.json()).error?.code : (await response.arrayBuffer()).byteLength;
    return [response.status, requestId, content];
  };
  const headers = { "content-type": "application/json", authorization: "Bearer none", "x-own": "1" };
  const text = JSON.stringify({ input: "Hello.", response_format: "pcm" });
  const form = new FormData();
  form.append("name", "Anna");
  const socket = new WebSocket(address.replace("http", "ws") + "/api/v1/speak");
  const first = new Promise((resolve) => {
    socket.onmessage = ({ data }) => { resolve(JSON.parse(data).type); socket.close(); };
    socket.onerror = () => resolve("refused");
  });
  return {
    speech: await ask("POST", "/v1/audio/speech", text, headers),
    error: await ask("POST", "/v1/audio/speech", "{}", headers),
    upload: await ask("POST", "/api/v1/voices", form, {}),
    put: await ask("PUT", "/api/v1/voices/none", form, {}),
    remove: await ask("DELETE", "/api/v1/voices/none", undefined, {}),
    listing: await ask("GET", "/api/v1/voices", undefined, { "x-own": "1" }),
    socket: await first,
  };
}
"""


class EmptyPages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """A port with empty pages, on every name that chromium finds on this machine."""
    with HTTPServer(("127.0.0.1", 0), EmptyPages) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder, pattern = tmp_path_factory.mktemp("service"), "http://*.page.example:*"
    with service_process(folder, allowed_origins=pattern, trusted_proxies="127.0.0.1") as process:
        yield process.until_listening()


@pytest.fixture(scope="module")
def nginx(allowing: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx_before(allowing, tmp_path_factory.mktemp("nginx")) as proxy:
        yield proxy


def used_from(context: BrowserContext, origin: str, service: ServerProcess) -> dict[str, Any]:
    with context.new_page() as page:
        page.goto(origin)
        used: dict[str, Any] = page.evaluate(_USE, service.url)
        return used


@pytest.mark.parametrize("host", ["my.page.example", "app.localhost"])
def test_an_allowed_page_reads_audio_headers_and_errors(
    context: BrowserContext, pages: int, allowing: ServerProcess, host: str
) -> None:
    used = used_from(context, f"http://{host}:{pages}", allowing)
    status, request_id, audio_bytes = used.pop("speech")
    assert (status, request_id) == (200, True)
    assert audio_bytes > 1000
    assert used == {
        "error": [400, False, "INVALID_MESSAGE"],
        "upload": [400, False, "INVALID_MESSAGE"],
        "put": [405, False, "METHOD_NOT_ALLOWED"],
        "remove": [404, False, "VOICE_NOT_FOUND"],
        "listing": [200, False, None],
        "socket": "ready",
    }


def test_any_other_page_reads_and_changes_nothing(
    context: BrowserContext, pages: int, allowing: ServerProcess
) -> None:
    used = used_from(context, f"http://evil.example:{pages}", allowing)
    assert set(used.values()) == {"refused"}


def test_the_page_speaks_below_a_prefix_of_nginx(nginx: Nginx, speak_page: SpeakPage) -> None:
    speak_page.open_at(f"http://tts.example:{nginx.documented}/tts/speak")
    speak_page.expect_status("Ready.")
    speak_page.speak("Hello.")
    speak_page.expect_status("Spoken")
    assert speak_page.received().any()
