"""Signals: the first drains, the second stops, the third kills; no traceback, no hanging session."""

import signal
import socket
import urllib.error
import urllib.request

import pytest

from tests.transport.conftest import StartToy
from tests.transport.processes import ServerProcess, eventually
from tests.transport.wire import Opcode, Wire, frame, upgrade_request

pytestmark = pytest.mark.process

AT_ONCE_S = 3.0
LONG = "60"
SESSIONS = 20


def ready_status(server: ServerProcess) -> int:
    try:
        with urllib.request.urlopen(f"http://{server.host}:{server.port}/ready", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def open_session(server: ServerProcess) -> Wire:
    session = Wire(server.host, server.port).upgrade("/session")
    server.expect("connected /session")
    return session


def assert_ended_cleanly(server: ServerProcess, within_s: float = AT_ONCE_S) -> None:
    assert server.wait(within_s) == 0
    assert server.complaints == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_pending_sessions_finish(start: StartToy, number: signal.Signals) -> None:
    toy = start("--drain-s", LONG)
    sessions = [open_session(toy) for _ in range(SESSIONS)]
    assert ready_status(toy) == 200
    toy.signal(number)
    toy.expect("draining")
    assert ready_status(toy) == 503
    for session in sessions:
        session.send(frame(Opcode.TEXT, b"done"))
        assert session.read_close_code() == 1000
        session.socket.close()
    toy.expect("shutdown")
    assert_ended_cleanly(toy)


def test_a_signal_is_not_lost_when_the_wakeup_pipe_of_the_loop_is_full(start: StartToy) -> None:
    toy = start("--drain-s", LONG)
    with Wire(toy.host, toy.port) as client:
        client.send(b"GET /signal_in_a_rush HTTP/1.1\r\nHost: test\r\n\r\n")
        toy.expect("draining")
    assert_ended_cleanly(toy)


def test_a_server_without_pending_sessions_exits_at_once(start: StartToy) -> None:
    toy = start("--drain-s", LONG)
    with Wire(toy.host, toy.port) as kept:
        kept.send(b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"200" in kept.read_head()
        toy.signal(signal.SIGTERM)
        assert_ended_cleanly(toy)


def test_sessions_pending_after_the_drain_timeout_are_closed_with_1001(start: StartToy) -> None:
    toy = start("--drain-s", "0.2")
    with open_session(toy) as session:
        toy.signal(signal.SIGTERM)
        toy.expect("draining")
        assert session.read_close_code() == 1001
    toy.expect("shutdown")
    assert_ended_cleanly(toy)


def test_a_second_signal_stops_at_once(start: StartToy) -> None:
    toy = start("--drain-s", LONG)
    with open_session(toy) as session:
        toy.signal(signal.SIGTERM)
        toy.expect("draining")
        toy.signal(signal.SIGTERM)
        assert session.read_close_code() == 1001
    toy.expect("shutdown")
    assert_ended_cleanly(toy)


def test_a_third_signal_kills_a_hanging_server(start: StartToy) -> None:
    toy = start("--hangs-at-shutdown")
    toy.signal(signal.SIGINT)
    toy.expect("shutdown")
    toy.signal(signal.SIGINT)
    assert eventually(lambda: not toy.catches(signal.SIGINT), within_s=AT_ONCE_S)
    toy.signal(signal.SIGINT)
    assert toy.wait(AT_ONCE_S) == -signal.SIGINT
    assert toy.complaints == ""


def test_a_stalled_websocket_does_not_delay_the_exit(start: StartToy) -> None:
    toy = start("--stall-s", LONG, "--drain-s", "0.1")
    with Wire(toy.host, toy.port, window_bytes=4096).upgrade("/flood"):
        toy.expect("connected /flood")
        toy.signal(signal.SIGTERM)
        assert_ended_cleanly(toy)


@pytest.mark.parametrize("reads", [True, False])
def test_an_http_stream_does_not_delay_the_exit(start: StartToy, reads: bool) -> None:
    toy = start("--stall-s", LONG, "--drain-s", "0.1")
    with Wire(toy.host, toy.port, window_bytes=4096) as client:
        client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        toy.expect("connected /stream")
        toy.signal(signal.SIGTERM)
        if reads:
            client.read_to_end()
        assert_ended_cleanly(toy)


def test_an_unanswered_handshake_does_not_delay_the_exit(start: StartToy) -> None:
    toy = start("--drain-s", LONG)
    with Wire(toy.host, toy.port) as client:
        client.send(upgrade_request("/undecided"))
        toy.expect("connected /undecided")
        toy.signal(signal.SIGTERM)
        assert b"500" in client.read_head()
        assert_ended_cleanly(toy)


def test_the_socket_listens_until_the_server_stops(start: StartToy) -> None:
    toy = start()
    toy.signal(signal.SIGTERM)
    assert toy.wait() == 0
    with socket.socket() as client:
        assert client.connect_ex((toy.host, toy.port)) != 0
