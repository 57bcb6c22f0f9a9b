"""A peer that takes nothing, or vanishes, costs the server nothing for longer than the stall timeout."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.transport.conftest import STALL_S, StartToy
from tests.transport.processes import ServerProcess, eventually
from tests.transport.wire import Opcode, Wire

pytestmark = pytest.mark.process

MARGIN_S = 2.0
WINDOW_BYTES = 4096
SPEECH_BYTES_PER_S = 48_000
# a network of four addresses to each test run, so that two on one machine do not meet
_NETWORK = f"169.254.{os.getpid() >> 6 & 0x7F}.{{}}".format
SERVER_ADDRESS, CLIENT_ADDRESS = (_NETWORK(os.getpid() % 64 * 4 + host) for host in (1, 2))


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
    with crowd_of_one(toy.host, toy.port, "/flood") as client:
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


def test_a_client_that_resets_is_noticed_at_once(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port).upgrade("/flood") as client:
        assert client.read_frame()[0] is Opcode.BINARY
    assert_dropped(toy, "/flood", before)


def test_a_peer_that_vanished_from_the_network_is_dropped(start: StartToy) -> None:
    with network_namespace() as namespace:
        toy = start("--host", SERVER_ADDRESS, "--stall-s", str(STALL_S))
        before = toy.open_files
        inside = ("ip", "netns", "exec", namespace)
        with crowd_of_one(toy.host, toy.port, "/trickle", *inside):
            toy.expect("connected /trickle")
            subprocess.run([*inside, "ip", "link", "set", f"{namespace}-in", "down"], check=True)
            assert_dropped(toy, "/trickle", before)


@contextmanager
def crowd_of_one(host: str, port: int, path: str, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """A client in a process of its own, reading all it gets."""
    command = [*prefix, sys.executable, "-m", "tests.transport.crowd", host, str(port), path, "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "open 1\n"
        yield client
        client.kill()


@contextmanager
def network_namespace() -> Iterator[str]:
    """Another machine as far as TCP can tell: a namespace at the far end of a virtual cable."""
    name = f"tts{os.getpid()}"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a half-open peer needs root and ip(8); the frozen client stands in")
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("this container may not make network namespaces; the frozen client stands in")
    try:
        for command in (
            f"ip link add {name}-out type veth peer name {name}-in netns {name}",
            f"ip address add {SERVER_ADDRESS}/30 dev {name}-out",
            f"ip link set {name}-out up",
            f"ip netns exec {name} ip address add {CLIENT_ADDRESS}/30 dev {name}-in",
            f"ip netns exec {name} ip link set {name}-in up",
        ):
            subprocess.run(command.split(), check=True)
        yield name
    finally:
        # the cable first: what the client left unacknowledged keeps its namespace alive for a while
        subprocess.run(["ip", "link", "del", f"{name}-out"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=True)
