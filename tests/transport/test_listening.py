"""Listening sockets: addresses, errors, and the options that accepted sockets inherit."""

import re
import resource
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from makima_tts.server.process import (
    KEEPALIVE_IDLE_S,
    SEND_BUFFER_BYTES,
    CannotListen,
    listen_on,
    raise_open_files_limit,
)
from tests.transport.conftest import StartToy
from tests.transport.processes import ServerProcess, start_toy
from tests.transport.wire import Wire

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def assert_cannot_start(server: ServerProcess, *expected: str) -> None:
    """One line for the operator, exit code 1."""
    assert server.wait() == 1
    (line,) = server.complaints.splitlines()
    for part in expected:
        assert part in line


@pytest.mark.process
def test_the_error_for_a_port_in_use_names_the_port_and_a_remedy(start: StartToy) -> None:
    port = str(start().port)
    with start_toy("--port", port) as second:
        assert_cannot_start(second, f"Port {port} on 127.0.0.1 is in use", "--port", "TTS_PORT")


@pytest.mark.process
@pytest.mark.parametrize(
    ("host", "reason"),
    [("no.such.host.invalid", "cannot be resolved"), ("203.0.113.1", "no address of this")],
)
def test_the_error_for_a_foreign_address_names_the_host(host: str, reason: str) -> None:
    with start_toy("--host", host) as toy:
        assert_cannot_start(toy, host, reason, "--host", "TTS_HOST")


@pytest.mark.process
def test_an_app_that_fails_to_start_exits_with_code_1() -> None:
    with start_toy("--fails-to-start") as toy:
        assert toy.wait() == 1
        assert "no weights" in toy.complaints
        assert "Traceback" not in toy.complaints


@pytest.mark.process
@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:\d+"),
        ("localhost", r"http://localhost:\d+"),
        ("0.0.0.0", r"http://127\.0\.0\.1:\d+"),  # noqa: S104
        pytest.param("::1", r"http://\[::1\]:\d+", marks=needs_ipv6),
        pytest.param("::", r"http://\[::1\]:\d+", marks=needs_ipv6),
    ],
)
def test_the_announced_url_is_reachable(start: StartToy, host: str, url: str) -> None:
    toy = start("--host", host)
    assert re.fullmatch(url, toy.url)
    with Wire(toy.host, toy.port) as client:
        client.send(b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"200" in client.read_head()
    toy.signal(signal.SIGTERM)
    assert toy.wait() == 0


@needs_ipv6
def test_localhost_has_the_same_port_on_ipv4_and_ipv6() -> None:
    listeners = listen_on("localhost", 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


def test_accepted_sockets_inherit_small_buffers_no_delay_and_keepalive() -> None:
    (listener,) = listen_on("127.0.0.1", 0)
    with closing(listener):
        listener.listen()
        with socket.create_connection(listener.getsockname()), closing(listener.accept()[0]) as accepted:
            # the kernel doubles the requested size for its own bookkeeping
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER_BYTES
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_S


def test_a_failure_closes_all_sockets() -> None:
    (taken,) = listen_on("127.0.0.1", 0)
    with closing(taken):
        taken.listen()
        with pytest.raises(CannotListen, match="in use"):
            listen_on("localhost", taken.getsockname()[1])


@pytest.mark.process
def test_the_limit_on_open_files_is_raised() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    toy = f"ulimit -S -n 64 && exec {sys.executable} -m tests.transport.toy_service"
    with ServerProcess(["sh", "-c", toy]).until_listening() as server:
        limits = Path(f"/proc/{server.pid}/limits").read_text()
    found = re.search(r"Max open files\s+(\d+)\s+(\d+)", limits)
    assert found is not None
    assert found.groups() == (str(hard), str(hard))


@pytest.mark.parametrize(
    ("platform", "soft", "hard", "raised"),
    [
        ("linux", 1024, 524_288, [524_288]),
        ("linux", 4096, 4096, []),
        ("darwin", 256, sys.maxsize, [10_240]),
        ("darwin", 256, 4096, [4096]),
        ("darwin", 65_536, sys.maxsize, []),
    ],
)
def test_the_limit_on_open_files_is_never_lowered_nor_set_above_the_maximum(
    platform: str, soft: int, hard: int, raised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    raise_open_files_limit()
    assert asked == [(wanted, hard) for wanted in raised]


@pytest.mark.parametrize("refusal", [ValueError, OSError])
def test_the_server_starts_when_the_limit_on_open_files_cannot_be_raised(
    refusal: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def refuse(_: int, limits: tuple[int, int]) -> None:
        asked.append(limits)
        raise refusal

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_files_limit()
    assert asked == [(4096, 4096)]
