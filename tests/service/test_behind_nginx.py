"""The service behind a real nginx, in its default configuration and in the documented one."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from makima_tts.settings import Settings
from tests.conftest import service_process
from tests.nginx import Nginx, documented_configuration, nginx_before
from tests.service.test_bad_peers import gauge
from tests.transport.processes import ServerProcess, eventually

NAME = "tts.example"
PREFIXES = {"default": "", "documented": "/tts", "at_root": ""}
PATIENCE_S = 10


class Way:
    """One port of nginx, asked as the browser does for ``tts.example``."""

    def __init__(self, nginx: Nginx, name: str) -> None:
        self.port = getattr(nginx, name)
        self.prefix = PREFIXES[name]
        self.origin = f"http://{NAME}:{self.port}"

    def http(self) -> httpx.Client:
        base = f"http://127.0.0.1:{self.port}{self.prefix}"
        host = {"host": f"{NAME}:{self.port}"}
        return httpx.Client(base_url=base, headers=host, timeout=PATIENCE_S, trust_env=False)

    @contextmanager
    def speech(self, text: str) -> Iterator[httpx.Response]:
        asked = {"input": text, "response_format": "pcm"}
        with self.http() as http, http.stream("POST", "/v1/audio/speech", json=asked) as answer:
            yield answer

    @contextmanager
    def session(self, **headers: str) -> Iterator[ClientConnection]:
        address = f"ws://{NAME}:{self.port}{self.prefix}/api/v1/speak"
        headers = {"origin": self.origin, **headers}
        with closing(socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)) as opened:
            with connect(address, sock=opened, additional_headers=headers, compression=None) as session:
                yield session


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with service_process(tmp_path_factory.mktemp("service"), trusted_proxies="127.0.0.1") as server:
        yield server.until_listening()


@pytest.fixture(scope="module")
def nginx(service: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx_before(service, tmp_path_factory.mktemp("nginx")) as proxy:
        yield proxy


@pytest.fixture(params=PREFIXES)
def way(request: pytest.FixtureRequest, nginx: Nginx) -> Way:
    return Way(nginx, request.param)


@pytest.fixture
def documented(nginx: Nginx) -> Way:
    return Way(nginx, "documented")


def test_speech_is_streamed_and_ends_with_its_client(service: ServerProcess, way: Way) -> None:
    """Everything that the service has sent arrives, though nothing more will come."""
    with way.speech("{slow 1}Words.{length}") as answer:
        sent_bytes = len(answer.read())
    with way.speech("{slow 1}Words.{stall}") as answer:
        chunks, received_bytes = answer.iter_raw(), 0
        while received_bytes < sent_bytes:
            received_bytes += len(next(chunks))
        assert gauge(service, "utterances_speaking") == 1
    assert eventually(lambda: gauge(service, "utterances_speaking") == 0, within_s=PATIENCE_S)


def test_a_failure_halfway_is_a_broken_transfer(way: Way) -> None:
    with way.speech("{slow 0.1}The first half of it. {fail}") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.TransportError):
            answer.read()


def test_an_error_keeps_its_status_and_body(way: Way) -> None:
    with way.speech("x" * 20_001) as answer:
        assert answer.status_code == 400
        assert json.loads(answer.read())["error"]["code"] == "INVALID_TEXT"


@pytest.mark.parametrize(("name", "status"), [("default", 403), ("documented", 400), ("at_root", 400)])
def test_the_own_page_may_speak_where_nginx_passes_the_host(nginx: Nginx, name: str, status: int) -> None:
    way = Way(nginx, name)
    with way.http() as http:
        answer = http.post("/v1/audio/speech", json={}, headers={"origin": way.origin})
    assert answer.status_code == status


@pytest.mark.parametrize("name", ["documented", "at_root"])
def test_a_websocket_of_the_own_page_speaks(nginx: Nginx, name: str) -> None:
    with Way(nginx, name).session() as session:
        session.send(json.dumps({"type": "speak", "text": "Hello."}))
        frames = [session.recv(PATIENCE_S, decode=False)]
        while b"complete" not in frames[-1]:
            frames.append(session.recv(PATIENCE_S, decode=False))
        assert len(frames) > 3


def test_a_websocket_that_nginx_does_not_pass_on_is_answered_with_the_reason(nginx: Nginx) -> None:
    way = Way(nginx, "default")
    with pytest.raises(InvalidStatus) as refused, way.session():
        pass
    assert refused.value.response.status_code == 426
    assert b"let the proxy pass Upgrade" in refused.value.response.body


def test_forged_headers_do_not_pass_the_documented_proxy(documented: Way) -> None:
    forged: AbstractContextManager[object] = documented.session(
        origin="https://evil.example", x_forwarded_host="evil.example"
    )
    with pytest.raises(InvalidStatus, match="403"), forged:
        pass
    with documented.http() as http:
        forged_prefix = {"x-forwarded-host": "evil.example", "x-forwarded-prefix": "/evil"}
        moved = http.get("/health/", headers=forged_prefix)
        assert moved.headers["location"] == f"{documented.origin}/tts/health"


def test_redirects_and_descriptions_contain_the_prefix(documented: Way) -> None:
    with documented.http() as http:
        assert http.get("/").headers["location"] == "speak"
        assert http.get("/speak").status_code == 200
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/tts"}]
        (described,) = re.findall(r"url: '([^']+)'", http.get("/docs").text)
        assert http.get(described.removeprefix("/tts")).json()["openapi"]


def test_an_upload_needs_the_documented_limit_of_nginx(nginx: Nginx) -> None:
    def upload(name: str) -> httpx.Response:
        clip = {"audio": ("a.wav", bytes(2_000_000))}
        with Way(nginx, name).http() as http:
            return http.post("/api/v1/voices", files=clip, data={"name": "Anna", "mode": "xvector"})

    assert upload("default").status_code == 413
    assert upload("documented").json()["error"]["code"] == "INVALID_AUDIO"


def test_the_documented_limits_exceed_the_services_own() -> None:
    settings = Settings(_env_file=None)
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", documented_configuration())
    (hours,) = re.findall(r"proxy_read_timeout (\d+)h;", documented_configuration())
    assert int(megabytes) * 2**20 > settings.max_upload_bytes
    assert int(hours) * 3600 >= max(settings.max_session_s, settings.idle_timeout_s)
