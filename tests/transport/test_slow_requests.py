"""Incomplete and oversized requests: deadlines and size limits."""

import pytest

from tests.transport.conftest import STALL_S, StartToy
from tests.transport.processes import ServerProcess, eventually, let_in
from tests.transport.wire import Wire, upgrade_request

pytestmark = pytest.mark.process

MARGIN_S = 2.0
GROWTH_BYTES = 32 << 20
GET_READY = b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n"


def post(path: str, length: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def test_a_connection_without_a_request_is_closed_without_a_response(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        assert client.ends(within_s=STALL_S + MARGIN_S)
        assert client.read_to_end() == b""


def test_slow_headers_do_not_extend_their_deadline(toy: ServerProcess) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port) as client:
        client.send(b"GET /ready HTTP/1.1\r\n")
        drips = 0
        while not client.ends(within_s=STALL_S / 10):
            client.send_while_open(b"X-Drip: 1\r\n")
            drips += 1
        assert drips < 10 * (STALL_S + MARGIN_S)
        assert client.read_to_end().startswith(b"HTTP/1.1 408 ")
    assert eventually(lambda: toy.open_files == before, within_s=MARGIN_S)


def test_incomplete_headers_end_a_keep_alive_connection(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        client.send(GET_READY)
        assert b"200" in client.read_head()
        client.send(GET_READY[:20])
        assert client.ends(within_s=STALL_S + MARGIN_S)
        assert client.read_to_end().startswith(b"HTTP/1.1 408 ")


def test_a_keep_alive_connection_may_be_idle_between_requests(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        for _ in range(2):
            client.send(GET_READY)
            assert b"200" in client.read_head()
            assert not client.ends(within_s=1.5 * STALL_S)


def test_sixty_four_mebibytes_of_header_are_refused_in_bounded_memory(toy: ServerProcess) -> None:
    before_bytes = toy.resident_bytes
    with Wire(toy.host, toy.port) as client:
        client.send(b"GET /ready HTTP/1.1\r\nX-Large: ")
        for _ in range(64):
            client.send_while_open(b"x" * (1 << 20))
        assert client.ends(within_s=MARGIN_S)
    assert toy.resident_bytes - before_bytes < GROWTH_BYTES


def test_header_bytes_are_bounded_at_sixteen_kibibytes(start: StartToy) -> None:
    toy = start()
    with Wire(toy.host, toy.port) as client:
        client.send(b"GET /ready HTTP/1.1\r\nHost: test\r\nX-Fits: " + b"x" * 15_000 + b"\r\n\r\n")
        assert b"200" in client.read_head()
        client.send(b"GET /ready HTTP/1.1\r\nHost: test\r\nX-Large: " + b"x" * 17_000)
        assert b"400" in client.read_head()


@pytest.mark.parametrize(
    "headers",
    [[f"X-{number}: 1" for number in range(140)], ["X-Long: " + "x" * 9000]],
    ids=["too many", "too long"],
)
def test_an_upgrade_that_the_websocket_library_refuses_gets_a_response(
    toy: ServerProcess, headers: list[str]
) -> None:
    before = toy.open_files
    with Wire(toy.host, toy.port) as client:
        client.send(upgrade_request("/echo", *headers))
        assert client.ends(within_s=MARGIN_S)
        assert client.read_to_end().startswith(b"HTTP/1.1 431 ")
    assert eventually(lambda: toy.open_files == before, within_s=MARGIN_S)


def test_an_incomplete_body_ends_the_connection(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        client.send(post("/upload", 1000) + b"x" * 999)
        toy.expect("ended /upload", within_s=STALL_S + MARGIN_S)
        assert client.ends(within_s=MARGIN_S)


def test_a_slow_body_is_accepted_while_it_makes_progress(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        client.send(post("/upload", 6))
        for _ in range(6):
            assert not client.ends(within_s=STALL_S / 4)
            client.send(b"x")
        assert b"200" in client.read_head()


def test_a_body_over_its_deadline_ends_the_connection(start: StartToy) -> None:
    toy = start("--stall-s", "1", "--body-s", "0.5")
    with Wire(toy.host, toy.port) as client:
        client.send(post("/upload", 1000))
        drips = 0
        while not client.ends(within_s=0.1):
            client.send_while_open(b"x")
            drips += 1
        assert drips < 10


def test_a_refused_upload_ends_after_a_limit(start: StartToy) -> None:
    toy = start("--stall-s", "1", "--body-s", "0.5")
    with Wire(toy.host, toy.port) as client:
        client.send(post("/refuse", 1 << 40))
        assert b"413" in client.read_head()
        drips = 0
        while not client.ends(within_s=0.1):
            client.send_while_open(b"x")
            drips += 1
        assert drips < 10


@pytest.mark.parametrize(
    ("headers", "sent"), [([], 300_000), (["Expect: 100-continue"], 0)], ids=["full", "asked to wait"]
)
def test_a_client_is_not_disconnected_because_the_app_reads_late(
    toy: ServerProcess, headers: list[str], sent: int
) -> None:
    with Wire(toy.host, toy.port) as client:
        client.send(post("/late_upload", 300_000, *headers) + b"x" * sent)
        assert not client.ends(within_s=1.5 * STALL_S)
        let_in(toy)
        if headers:
            assert b"100" in client.read_head()
        client.send(b"x" * (300_000 - sent))
        assert b"200" in client.read_head()
        assert client.read_exactly(6) == b"300000"
