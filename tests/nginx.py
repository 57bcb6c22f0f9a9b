"""A real nginx in front of a service: in its default configuration, and as docs/operations.md configures it.

In: a running service. Out: three addresses of one nginx. Does not know: what is tested.

nginx inherits listening sockets, so it needs no free port, and connections wait in them until it has started.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.transport.processes import ROOT, ServerProcess

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
# Everything here is as in a configuration that nobody has changed, but for files that it may write.
_FRAME = """
daemon off;
user root root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include /etc/nginx/mime.types;
{servers}
}}
"""
_DEFAULT = "server { listen 443 ssl; location / { proxy_pass http://127.0.0.1:8001; } }"


@dataclass(frozen=True)
class Nginx:
    """Ports on 127.0.0.1. ``documented`` has the prefix ``/tts``, ``at_root`` is the same without it."""

    default: int
    documented: int
    at_root: int


def documented_configuration() -> str:
    document = (ROOT / "docs" / "operations.md").read_text()
    return document.partition("```nginx\n")[2].partition("```")[0]


def _without_prefix(server: str) -> str:
    """As the document says."""
    server = server.replace("location /tts/", "location /").replace("127.0.0.1:8001/;", "127.0.0.1:8001;")
    return re.sub(r".*X-Forwarded-Prefix.*\n", "", server)


def _placed(server: str, service: ServerProcess, port: int) -> str:
    server = re.sub(r".*ssl_certificate.*\n", "", server)
    placed = server.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    return placed.replace("127.0.0.1:8001", f"{service.host}:{service.port}")


@contextmanager
def nginx_before(service: ServerProcess, folder: Path) -> Iterator[Nginx]:
    """Without nginx tests are skipped, unless MAKIMA_TTS_REQUIRE_NGINX is set."""
    if NGINX is None:
        assert not os.environ.get("MAKIMA_TTS_REQUIRE_NGINX"), "nginx is required here"
        pytest.skip("nginx is not installed")
    shared, _, documented = documented_configuration().partition("\nserver ")
    documented = f"server {documented}"
    with ExitStack() as opened:
        listeners = [opened.enter_context(closing(socket.socket())) for _ in range(3)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)  # nginx takes it as it is
        ports = [listener.getsockname()[1] for listener in listeners]
        texts = (_DEFAULT, documented, _without_prefix(documented))
        servers = [_placed(text, service, port) for text, port in zip(texts, ports, strict=True)]
        configuration = folder / "nginx.conf"
        configuration.write_text(_FRAME.format(folder=folder, servers="\n".join([shared, *servers])))
        inherited = [listener.fileno() for listener in listeners]
        process = subprocess.Popen(
            [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(configuration)],
            env={**os.environ, "NGINX": "".join(f"{number};" for number in inherited)},
            pass_fds=inherited,
        )
        try:
            yield Nginx(*ports)
            assert process.poll() is None, (folder / "error.log").read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
