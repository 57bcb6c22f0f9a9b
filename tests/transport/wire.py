"""A raw WebSocket client on a plain socket, for bytes and frames that no library would send.

In: an address. Out: a socket with WebSocket frames on it. Does not know: the server.
"""

import json
import os
import select
import socket
import struct
from contextlib import suppress
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 20.0
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Wire:
    """One TCP connection. ``window_bytes``: the receive buffer of a client that does not read."""

    def __init__(self, host: str, port: int, *, window_bytes: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if window_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect((host, port))
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_while_open(self, data: bytes) -> None:
        """Sends until the server ends the connection, which may happen at any byte."""
        with suppress(ConnectionError):
            self.send(data)

    def upgrade(self, path: str, *extra_headers: str) -> Self:
        """Complete a WebSocket handshake."""
        self.send(upgrade_request(path, *extra_headers))
        status = self.read_head().split(b"\r\n")[0]
        assert b"101" in status, status
        return self

    def read_head(self) -> bytes:
        """The head of a response, without its empty line."""
        while b"\r\n\r\n" not in self._unread:
            self._unread += self._receive()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        return head

    def read_exactly(self, size_bytes: int) -> bytes:
        while len(self._unread) < size_bytes:
            self._unread += self._receive()
        taken, self._unread = self._unread[:size_bytes], self._unread[size_bytes:]
        return taken

    def read_frame(self) -> tuple[Opcode, bytes]:
        first, size_bytes = self.read_exactly(2)
        if size_bytes == 126:
            (size_bytes,) = struct.unpack("!H", self.read_exactly(2))
        elif size_bytes == 127:
            (size_bytes,) = struct.unpack("!Q", self.read_exactly(8))
        return Opcode(first & 0x0F), self.read_exactly(size_bytes)

    def say(self, **message: object) -> None:
        """Send a JSON message."""
        self.send(frame(Opcode.TEXT, json.dumps(message).encode()))

    def hear(self, kind: str) -> dict[str, Any]:
        """The next JSON message of this type; skips audio and other messages."""
        while True:
            opcode, payload = self.read_frame()
            assert opcode is not Opcode.CLOSE, f"closed with {payload[:2].hex()} before {kind}"
            if opcode is Opcode.TEXT and (message := dict(json.loads(payload)))["type"] == kind:
                return message

    def read_close_code(self) -> int:
        """Skip everything up to the close frame."""
        while True:
            opcode, payload = self.read_frame()
            if opcode is Opcode.CLOSE:
                (code,) = struct.unpack("!H", payload[:2])
                return int(code)

    def read_to_end(self) -> bytes:
        """Everything until the server closes or resets."""
        with suppress(ConnectionError):
            while chunk := self.socket.recv(65536):
                self._unread += chunk
        return self._unread

    def ends(self, *, within_s: float) -> bool:
        """Whether the server ends the connection in time, checked without reading a byte."""
        watch = select.poll()
        watch.register(self.socket, select.POLLRDHUP)
        return bool(watch.poll(within_s * 1000))

    def _receive(self) -> bytes:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionResetError("closed by the server")
        return chunk


def frame(opcode: Opcode, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A masked client frame."""
    mask = os.urandom(4)
    size_bytes = len(payload)
    head = bytes([final << 7 | opcode])
    if size_bytes < 126:
        head += bytes([0x80 | size_bytes])
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size_bytes)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def upgrade_request(path: str, *extra_headers: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {_KEY}",
        *extra_headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()
