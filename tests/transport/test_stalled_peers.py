"""Stalled peers and half-open connections are closed after the stall timeout."""

import asyncio
import signal
import socket
import sys
import time
from contextlib import closing

import pytest

from makima_tts.server.transport import HTTP_STALL_FACTOR, WatchedTransport, kernel_unsent_bytes
from tests.transport.conftest import STALL_S, StartToy
from tests.transport.far_away import SERVER_ADDRESS, crowd, network_namespace
from tests.transport.processes import ServerProcess, eventually
from tests.transport.toy_service import LARGE
from tests.transport.wire import Opcode, Wire, upgrade_request

pytestmark = pytest.mark.process

MARGIN_S = 2.0
WINDOW_BYTES = 4096
SPEECH_BYTES_PER_S = 48_000
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n"


def assert_dropped(toy: ServerProcess, path: str, open_files_before: int) -> None:
    toy.expect(f"ended {path}", within_s=HTTP_STALL_FACTOR * STALL_S + MARGIN_S)
    assert eventually(lambda: toy.open_files == open_files_before, within_s=MARGIN_S)


def test_a_stalled_websocket_reader_is_disconnected(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood") as client:
        stalled = toy.expect("peer_stalled", within_s=STALL_S + MARGIN_S, anywhere=True)
        assert "websocket" in stalled
        assert f"it took no byte for {STALL_S:g} s" in stalled
        assert_dropped(toy, "/flood", before)
        assert client.ends(within_s=MARGIN_S)


def test_a_stalled_http_reader_is_disconnected(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        assert not client.ends(within_s=STALL_S)  # a player that pauses gets longer than a WebSocket
        stalled = toy.expect("peer_stalled", within_s=STALL_S + MARGIN_S, anywhere=True)
        assert f"it took no byte for {HTTP_STALL_FACTOR * STALL_S:g} s" in stalled
        assert_dropped(toy, "/stream", before)
        assert client.ends(within_s=MARGIN_S)


def test_buffers_hold_at_most_three_seconds_of_speech(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood"):
        sent_bytes = int(toy.expect("sent ", anywhere=True).split()[1])
    print(f"{sent_bytes / SPEECH_BYTES_PER_S:.1f} s of 24 kHz PCM16 were sent to a client that read none")
    assert sent_bytes < 3 * SPEECH_BYTES_PER_S


def test_a_slow_reader_stays_connected(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood") as client:
        ends_s = time.monotonic() + 3 * STALL_S
        while time.monotonic() < ends_s:
            client.read_exactly(2 * WINDOW_BYTES)
            assert not client.ends(within_s=STALL_S / 10)


def test_a_client_with_a_stopped_process_is_disconnected(toy: ServerProcess) -> None:
    before = toy.open_files
    with crowd(toy.host, toy.port, "/flood", size=1) as client:
        toy.expect("connected /flood")
        client.send_signal(signal.SIGSTOP)
        assert_dropped(toy, "/flood", before)
        client.send_signal(signal.SIGCONT)


def test_an_unanswered_close_ends_the_connection(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port).upgrade("/close") as client:
        assert client.read_close_code() == 1000
        assert_dropped(toy, "/close", before)
        assert client.ends(within_s=MARGIN_S)


def test_a_close_to_a_stalled_peer_ends_the_connection(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/fill_and_close") as client:
        assert_dropped(toy, "/fill_and_close", before)
        assert client.ends(within_s=MARGIN_S)


def test_an_upgrade_after_an_unread_response_inherits_the_deadline(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(GET_LARGE + upgrade_request("/echo"))
        assert_dropped(toy, "/echo", before)
        assert client.ends(within_s=MARGIN_S)


def test_an_upgrade_after_a_read_response_has_no_deadline(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(GET_LARGE + upgrade_request("/echo"))
        assert b"200" in client.read_head()
        assert client.read_exactly(len(LARGE)) == LARGE
        assert b"101" in client.read_head()
        assert not client.ends(within_s=1.5 * STALL_S)


def test_a_reset_is_detected_at_once(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port).upgrade("/flood") as client:
        assert client.read_frame()[0] is Opcode.BINARY
    assert_dropped(toy, "/flood", before)


def test_a_half_open_connection_is_closed(start: StartToy) -> None:
    with network_namespace() as far:
        toy = start("--host", SERVER_ADDRESS, "--stall-s", str(STALL_S))
        before = toy.open_files
        with crowd(toy.host, toy.port, "/trickle", size=1, prefix=far.prefix):
            toy.expect("connected /trickle")
            far.cut()
            assert_dropped(toy, "/trickle", before)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_the_user_timeout_is_the_connections_own_and_longer_than_its_deadline() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        watched = WatchedTransport(connection, loop)
        for protocol, stall_timeout_s in (("http", 60.0), ("websocket", 30.0)):
            watched.watch(protocol, stall_timeout_s)
            accepted = connection.get_extra_info("socket")
            timeout_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert timeout_ms == 2000 * stall_timeout_s
        connection.abort()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_the_user_timeout_of_a_peer_that_takes_bytes_moves_along() -> None:
    """Linux counts it from the first probe of a closed window, so it would reset a steady reader."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        with closing(listener.accept()[0]) as peer:
            peer.settimeout(MARGIN_S)
            watched = WatchedTransport(connection, loop)
            watched.watch("http", STALL_S)
            for _ in range(20):
                watched.write(LARGE)
            ours = connection.get_extra_info("socket")
            moved = 0
            async with asyncio.timeout(MARGIN_S):
                while moved <= 2000 * STALL_S:
                    taken = await asyncio.to_thread(peer.recv, len(LARGE))
                    watched.write(taken)  # so that there is always more to take
                    moved = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            watched.abort()


@pytest.mark.parametrize("platform", ["linux", "another"])
def test_unsent_bytes_are_those_the_kernel_holds_where_it_tells(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        peer.connect(listener.getsockname())
        with closing(listener.accept()[0]) as accepted:
            accepted.setblocking(False)
            written_bytes = accepted.send(LARGE)
            unsent_bytes = kernel_unsent_bytes(accepted)
            if platform == "linux":
                assert written_bytes - 4 * WINDOW_BYTES < unsent_bytes <= written_bytes
            else:
                assert unsent_bytes == 0
        assert kernel_unsent_bytes(accepted) == 0
