"""A peer that takes nothing, or vanishes, costs the server nothing for longer than the stall timeout."""

import signal
import time

import pytest

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
    toy.expect(f"ended {path}", within_s=STALL_S + MARGIN_S)
    assert eventually(lambda: toy.open_files == open_files_before, within_s=MARGIN_S)


def test_a_websocket_reader_that_stalls_is_dropped(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood") as client:
        assert_dropped(toy, "/flood", before)
        assert client.ends(within_s=MARGIN_S)


def test_an_http_reader_that_stalls_is_dropped(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        assert_dropped(toy, "/stream", before)
        assert client.ends(within_s=MARGIN_S)


def test_no_more_than_three_seconds_of_speech_hide_in_buffers(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood"):
        sent_bytes = int(toy.expect("sent ", anywhere=True).split()[1])
    print(f"{sent_bytes / SPEECH_BYTES_PER_S:.1f} s of 24 kHz PCM16 were sent to a client that read none")
    assert sent_bytes < 3 * SPEECH_BYTES_PER_S


def test_a_reader_that_is_merely_slow_is_kept(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/flood") as client:
        ends_s = time.monotonic() + 3 * STALL_S
        while time.monotonic() < ends_s:
            client.read_exactly(2 * WINDOW_BYTES)
            assert not client.ends(within_s=STALL_S / 50)


def test_a_client_whose_process_is_frozen_is_dropped(toy: ServerProcess) -> None:
    before = toy.open_files
    with crowd(toy.host, toy.port, "/flood", size=1) as client:
        toy.expect("connected /flood")
        client.send_signal(signal.SIGSTOP)
        assert_dropped(toy, "/flood", before)
        client.send_signal(signal.SIGCONT)


def test_a_close_that_the_peer_never_answers_ends_the_connection(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port).upgrade("/close") as client:
        assert client.read_close_code() == 1000
        assert_dropped(toy, "/close", before)
        assert client.ends(within_s=MARGIN_S)


def test_a_close_that_a_stalled_peer_never_sees_ends_the_connection(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES).upgrade("/fill_and_close") as client:
        assert_dropped(toy, "/fill_and_close", before)
        assert client.ends(within_s=MARGIN_S)


def test_an_upgrade_behind_an_answer_that_is_not_read_inherits_the_deadline(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(GET_LARGE + upgrade_request("/echo"))
        assert_dropped(toy, "/echo", before)
        assert client.ends(within_s=MARGIN_S)


def test_an_upgrade_behind_an_answer_that_is_read_loses_the_deadline(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port, window_bytes=WINDOW_BYTES) as client:
        client.send(GET_LARGE + upgrade_request("/echo"))
        assert b"200" in client.read_head()
        assert client.read_exactly(len(LARGE)) == LARGE
        assert b"101" in client.read_head()
        assert not client.ends(within_s=1.5 * STALL_S)


def test_a_client_that_resets_is_noticed_at_once(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port).upgrade("/flood") as client:
        assert client.read_frame()[0] is Opcode.BINARY
    assert_dropped(toy, "/flood", before)


def test_a_peer_that_vanished_from_the_network_is_dropped(start: StartToy) -> None:
    with network_namespace() as far:
        toy = start("--host", SERVER_ADDRESS, "--stall-s", str(STALL_S))
        before = toy.open_files
        with crowd(toy.host, toy.port, "/trickle", size=1, prefix=far.prefix):
            toy.expect("connected /trickle")
            far.cut()
            assert_dropped(toy, "/trickle", before)
