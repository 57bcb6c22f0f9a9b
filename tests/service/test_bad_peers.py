"""Misbehaving clients: their utterances end, slots are released, other clients are not affected."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from random import Random

import pytest

from makima_tts.server.transport import HTTP_STALL_FACTOR
from tests.conftest import Serve, service_process
from tests.service.hostility import SECRET, hostile_frame
from tests.transport.far_away import SERVER_ADDRESS, crowd, network_namespace
from tests.transport.processes import ServerProcess, eventually
from tests.transport.wire import Opcode, Wire, frame

pytestmark = pytest.mark.process

SPEAK = "/api/v1/speak"
STALL_S = 0.5
MARGIN_S = 2.0
LEAVE_S = 10.0
GROWTH_BYTES = 32 << 20
MESSAGES, PER_SESSION = 20_000, 25


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serves one misbehaving client after another. Afterwards it must stop cleanly, without a traceback, a
    warning or user text in the log.
    """
    folder = tmp_path_factory.mktemp("service")
    with service_process(folder, stall_timeout_s=STALL_S, drain_timeout_s=60) as server:
        server.until_listening()
        assert eventually(lambda: get(server, "/ready")[0] == 200, within_s=20)
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        for trace in ("Traceback", "Warning", SECRET):
            assert trace not in server.complaints


@pytest.fixture
def service(shared_service: ServerProcess) -> Iterator[ServerProcess]:
    """The shared service; every connection must be closed after a test."""
    before_files = shared_service.open_files
    yield shared_service
    # fewer when the last test's connection was still closing before
    assert eventually(lambda: shared_service.open_files <= before_files, within_s=LEAVE_S)


def get(server: ServerProcess, path: str) -> tuple[int, str]:
    with Wire(server.host, server.port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        head, body = client.read_head(), client.read_to_end()
    return int(head.split()[1]), body.decode()


def post(path: str, http_version: str, **fields: object) -> bytes:
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/{http_version}\r\nHost: test\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def gauge(server: ServerProcess, name: str) -> float:
    found = re.search(rf"^makima_tts_{name} (\S+)$", get(server, "/metrics")[1], re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def open_session(server: ServerProcess, *, window_bytes: int | None = None) -> Wire:
    session = Wire(server.host, server.port, window_bytes=window_bytes).upgrade(SPEAK)
    session.hear("ready")
    return session


def assert_all_released(server: ServerProcess, within_s: float) -> None:
    assert eventually(lambda: gauge(server, "utterances_speaking") == 0, within_s=within_s)
    assert eventually(lambda: gauge(server, "sessions") == 0, within_s=within_s)


def assert_speaks(server: ServerProcess) -> None:
    with open_session(server) as session:
        session.say(type="speak", text="Still here.")
        assert session.hear("complete")["finishReason"] == "stop"


def test_a_stalled_listener_releases_its_slot(service: ServerProcess) -> None:
    with open_session(service, window_bytes=4096) as session:
        session.say(type="speak", text="{endless}")
        assert eventually(lambda: gauge(service, "utterances_speaking") == 1, within_s=MARGIN_S)
        assert_all_released(service, STALL_S + MARGIN_S)
        assert session.ends(within_s=MARGIN_S)


def test_a_client_that_sends_and_never_reads_releases_its_slot(service: ServerProcess) -> None:
    with open_session(service, window_bytes=4096) as session:
        ping = frame(Opcode.TEXT, json.dumps({"type": "ping", "id": "p" * 60}).encode()) * 500
        while not session.ends(within_s=0):
            session.send_while_open(ping)
        assert_all_released(service, STALL_S + MARGIN_S)


def test_a_stalled_http_listener_releases_its_slot(service: ServerProcess) -> None:
    with Wire(service.host, service.port, window_bytes=4096) as client:
        client.send(post("/api/v1/tts", "1.1", text="{endless}"))
        assert client.ends(within_s=HTTP_STALL_FACTOR * STALL_S + MARGIN_S)
    assert_all_released(service, MARGIN_S)


@pytest.mark.parametrize(
    ("path", "field"), [("/api/v1/tts", "text"), ("/v1/audio/speech", "input")], ids=["native", "openai"]
)
def test_over_http_1_0_a_body_that_broke_off_ends_with_a_reset(
    service: ServerProcess, path: str, field: str
) -> None:
    """The end of the connection is the end of the body there, so a close would look like a whole one."""
    for text, breaks_off in (("Twelve chars", False), ("Twelve chars{fail}", True)):
        with Wire(service.host, service.port) as client:
            client.send(post(path, "1.0", **{field: text}))
            assert b"transfer-encoding" not in client.read_head()
            with pytest.raises(ConnectionResetError) if breaks_off else nullcontext():
                while client.socket.recv(65536):
                    pass


def test_a_disconnect_in_mid_utterance_releases_its_slot(service: ServerProcess) -> None:
    with open_session(service) as session:
        session.say(type="speak", text="{slow 1}{endless}")
        assert session.read_frame()[0] is Opcode.BINARY
        assert gauge(service, "utterances_speaking") == 1
    assert_all_released(service, MARGIN_S)


def test_a_half_open_connection_releases_its_slot(serve: Serve) -> None:
    with network_namespace() as far:
        server = serve(host=SERVER_ADDRESS, stall_timeout_s=STALL_S)
        speak = json.dumps({"type": "speak", "text": "{slow 1}{endless}"})
        with crowd(server.host, server.port, SPEAK, size=1, prefix=far.prefix, says=speak):
            assert eventually(lambda: gauge(server, "utterances_speaking") == 1, within_s=MARGIN_S)
            far.cut()
            assert_all_released(server, STALL_S + MARGIN_S)


@pytest.mark.parametrize("signals", [1, 2])
def test_sigterm_under_load(serve: Serve, signals: int) -> None:
    """One signal lets every utterance finish; a second stops at once."""
    server = serve(drain_timeout_s=60)
    text = "{slow 1}" + ("Twelve chars" if signals == 1 else "{endless}")
    with ExitStack() as opened:
        sessions = [opened.enter_context(open_session(server)) for _ in range(20)]
        for session in sessions:
            session.say(type="start", events=True)
            session.say(type="speak", text=text)
        for session in sessions:
            session.hear("speaking")
        server.signal(signal.SIGTERM)
        assert eventually(lambda: get(server, "/ready")[0] == 503, within_s=MARGIN_S)
        if signals == 2:
            server.signal(signal.SIGTERM)
        for session in sessions:
            if signals == 1:
                assert session.hear("complete")["finishReason"] == "stop"
                assert session.hear("stopped")["reason"] == "draining"
            assert session.read_close_code() == 1001
    assert server.wait(5) == 0
    assert "Traceback" not in server.complaints


def test_a_draining_service_replies_and_refuses_new_sessions(serve: Serve) -> None:
    server = serve(drain_timeout_s=60)
    with open_session(server) as session:
        session.say(type="speak", text="{slow 1}{endless}")
        session.read_frame()
        server.signal(signal.SIGTERM)
        assert eventually(lambda: get(server, "/ready")[0] == 503, within_s=MARGIN_S)
        assert get(server, "/health")[0] == 200
        with Wire(server.host, server.port).upgrade(SPEAK) as late:
            assert late.hear("stopped")["reason"] == "draining"
            assert late.read_close_code() == 1001
        session.say(type="stop")
        assert session.hear("stopped")
    assert server.wait(5) == 0


def test_a_thousand_idle_sessions_use_little_memory(service: ServerProcess) -> None:
    before_bytes = service.resident_bytes
    with ExitStack() as running:
        for _ in range(4):
            running.enter_context(crowd(service.host, service.port, SPEAK, size=250))
        assert gauge(service, "sessions") == 1000
        each_bytes = (service.resident_bytes - before_bytes) / 1000
        print(f"{each_bytes / 1024:.1f} KiB of memory per idle session")
        assert each_bytes < 96 * 1024
        with Wire(service.host, service.port).upgrade(SPEAK) as one_too_many:
            assert one_too_many.hear("error")["code"] == "RATE_LIMITED"
            assert one_too_many.read_close_code() == 1013
    assert_all_released(service, 10.0)
    assert_speaks(service)


def test_a_port_in_use_ends_the_command_with_one_line(service: ServerProcess, serve: Serve) -> None:
    with pytest.raises(AssertionError, match=f"Port {service.port} on 127.0.0.1 is in use"):
        serve(port=service.port)


def test_twenty_thousand_hostile_messages_do_not_change_the_service(service: ServerProcess) -> None:
    assert_speaks(service)
    before_bytes, before_files = service.resident_bytes, service.open_files
    sent = 0
    for seed in range(MESSAGES // PER_SESSION):
        with Wire(service.host, service.port).upgrade(SPEAK) as session:
            batch = [hostile_frame(Random(seed * PER_SESSION + number)) for number in range(PER_SESSION)]
            session.send_while_open(b"".join(batch))
            session.send_while_open(frame(Opcode.CLOSE, b"\x03\xe8"))
            session.read_to_end()
            sent += len(batch)
    assert sent == MESSAGES
    assert_all_released(service, 10.0)
    assert_speaks(service)
    # fewer when what spoke before was still closing then
    assert eventually(lambda: service.open_files <= before_files, within_s=MARGIN_S)
    print(f"{(service.resident_bytes - before_bytes) / 2**20:.1f} MiB after {sent} hostile messages")
    assert service.resident_bytes - before_bytes < GROWTH_BYTES
