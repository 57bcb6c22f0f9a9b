"""The container's health check, run as the container engine runs it, against a fake service."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.containers.dockerfile import ROOT


@contextmanager
def service_that_answers(status: int) -> Iterator[int]:
    """Its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/ready"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def check(port: int, **environment: str) -> int:
    """The exit code."""
    command = [sys.executable, str(ROOT / "scripts" / "healthcheck.py")]
    env = {"TTS_PORT": str(port), **environment}
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode


@pytest.mark.process
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_healthy_when_it_is_ready(status: int, code: int) -> None:
    with service_that_answers(status) as port:
        assert check(port) == code


@pytest.mark.process
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_the_health_check_ignores_the_hosts_proxy(name: str) -> None:
    with service_that_answers(200) as port:
        assert check(port, **{name: "http://127.0.0.1:9"}) == 0
