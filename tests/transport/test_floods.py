"""Empty, oversized and invalid frames get a close code, in bounded memory, without a log line."""

import pytest

from makima_tts.server.transport import (
    CONTROL_FRAMES,
    FRAGMENTS,
    MESSAGE_BYTES,
)
from tests.transport.conftest import StartToy
from tests.transport.processes import ServerProcess, eventually, let_in
from tests.transport.wire import Opcode, Wire, frame, upgrade_request

pytestmark = pytest.mark.process

MARGIN_S = 2.0
GROWTH_BYTES = 32 << 20
FLOOD_BYTES = 64 << 20


def pour(client: Wire, data: bytes) -> None:
    for _ in range(FLOOD_BYTES // len(data)):
        client.send_while_open(data)


@pytest.mark.parametrize("payload", [b"", bytes(125)], ids=["empty", "large"])
@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_a_flood_of_control_frames_from_a_client_that_does_not_read(
    toy: ServerProcess, opcode: Opcode, payload: bytes
) -> None:
    before_files, before_bytes = toy.open_files, toy.resident_bytes
    with Wire(toy.host, toy.port, window_bytes=4096).upgrade("/echo") as client:
        pour(client, frame(opcode, payload) * 4000)
        assert eventually(lambda: toy.open_files == before_files, within_s=MARGIN_S)
    assert toy.resident_bytes - before_bytes < GROWTH_BYTES


def test_too_many_pings_close_with_1008(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.PING) * CONTROL_FRAMES)
        for _ in range(CONTROL_FRAMES):
            assert client.read_frame() == (Opcode.PONG, b"")
        client.send(frame(Opcode.PING))
        assert client.read_close_code() == 1008


def test_each_pong_has_the_payload_of_its_ping(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        for payload in (b"", b"one", bytes(125)):
            client.send(frame(Opcode.PING, payload))
            assert client.read_frame() == (Opcode.PONG, payload)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_flood_of_empty_fragments_closes_with_1009(toy: ServerProcess, opcode: Opcode) -> None:
    before_bytes = toy.resident_bytes
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(opcode, final=False))
        pour(client, frame(Opcode.CONTINUATION, final=False) * 100_000)
        assert client.ends(within_s=MARGIN_S)
    assert toy.resident_bytes - before_bytes < GROWTH_BYTES


def test_a_message_in_many_fragments_is_one_message(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, b"a", final=False))
        client.send(frame(Opcode.CONTINUATION, b"a", final=False) * (FRAGMENTS - 2))
        client.send(frame(Opcode.CONTINUATION, b"a"))
        assert client.read_frame() == (Opcode.TEXT, b"a" * FRAGMENTS)


def test_one_fragment_too_many_closes_with_1009(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, b"a", final=False))
        client.send(frame(Opcode.CONTINUATION, b"a", final=False) * FRAGMENTS)
        assert client.read_close_code() == 1009


def test_a_message_of_the_allowed_size_passes(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, b"a" * (MESSAGE_BYTES - 1)))
        assert client.read_frame() == (Opcode.TEXT, b"a" * (MESSAGE_BYTES - 1))


@pytest.mark.parametrize("cut", [1, 2], ids=["whole", "fragmented"])
def test_a_message_over_the_allowed_size_closes_with_1009(toy: ServerProcess, cut: int) -> None:
    part = b"a" * (MESSAGE_BYTES // cut + 1)
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, part, final=cut == 1))
        if cut == 2:
            client.send(frame(Opcode.CONTINUATION, part))
        assert client.read_close_code() == 1009


@pytest.mark.parametrize("after", [b"", frame(Opcode.CLOSE, b"\x03\xe8")], ids=["alone", "before a close"])
def test_bad_utf8_never_reaches_the_app(toy: ServerProcess, after: bytes) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, b"\xff") + after)
        assert client.read_close_code() == (1000 if after else 1007)


def test_utf8_may_be_split_between_fragments(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(frame(Opcode.TEXT, b"\xc3", final=False) + frame(Opcode.CONTINUATION, b"\xa9"))
        assert client.read_frame() == (Opcode.TEXT, "é".encode())


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff\xff\xff\xff", frame(Opcode.CONTINUATION), b"\x81\x00", frame(Opcode.PING, final=False)],
    ids=["reserved bits", "nothing to continue", "not masked", "fragmented ping"],
)
def test_an_invalid_frame_closes_with_1002(toy: ServerProcess, nonsense: bytes) -> None:
    with Wire(toy.host, toy.port).upgrade("/echo") as client:
        client.send(nonsense)
        assert client.read_close_code() == 1002


def test_invalid_bytes_before_the_handshake_response_end_the_connection(toy: ServerProcess) -> None:
    with Wire(toy.host, toy.port) as client:
        client.send(upgrade_request("/late"))
        toy.expect("connected /late")
        client.send(b"\xff\xff\xff\xff")
        assert client.ends(within_s=MARGIN_S)
    let_in(toy)
    toy.expect("ended /late")


def test_an_app_that_crashes_closes_with_1011(start: StartToy) -> None:
    toy = start()
    with Wire(toy.host, toy.port).upgrade("/crash") as client:
        assert client.read_close_code() == 1011
    assert eventually(lambda: "a crash that the test asked for" in toy.complaints, within_s=MARGIN_S)
