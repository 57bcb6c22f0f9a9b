"""uvicorn's HTTP and WebSocket protocols, with deadlines and limits.

In: bytes from sockets, uvicorn's calls. Out: the same ASGI messages; a peer that reads nothing, sends half a
request or floods is dropped in bounded time and memory. Does not know: the content of messages.

One rule bounds all writes: the transport's high-water mark is zero, so ``pause_writing`` is called for the
first byte that the kernel does not accept, and ``resume_writing`` when the buffer is empty. Between the two a
deadline runs, and it aborts: ``transport.close()``, all that stock uvicorn calls, waits for ever for a peer.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

HEADERS_BYTES = 16 * 1024
BODY_TIMEOUT_S = 300.0  # the largest upload, 32 MiB, over 1 Mbit/s takes 268 s
KEEP_ALIVE_S = 75  # above the 60 s of common proxies, or they meet a connection that has just closed
STOP_GRACE_S = 1.0
MESSAGE_BYTES = 64 * 1024
FRAGMENTS = 1024  # of one message: empty ones cost nothing on the wire and 1 KiB each in memory
CONTROL_FRAMES = 100  # pings and pongs within CONTROL_WINDOW_S: a read full of them blocks the loop for 0.1 s
CONTROL_WINDOW_S = 10.0


class TransportConfig(uvicorn.Config):
    """uvicorn's configuration with the protocols of this module, and ``stall_timeout_s``."""

    def __init__(self, app: ASGIApp, *, stall_timeout_s: float) -> None:
        super().__init__(
            app,
            http=HttpConnection,
            h11_max_incomplete_event_size=HEADERS_BYTES,
            timeout_keep_alive=KEEP_ALIVE_S,
            ws=WebSocketConnection,
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            timeout_graceful_shutdown=5,
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            log_level="error",  # clients can flood WARNING, INFO has query strings, DEBUG has messages
        )
        self.stall_timeout_s = stall_timeout_s


class Deadline:
    """One timer, which calls ``on_expired`` unless it is disarmed or armed again in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._timer: asyncio.TimerHandle | None = None

    @property
    def armed(self) -> bool:
        return self._timer is not None

    def arm(self, after_s: float) -> None:
        self.disarm()
        self._timer = self._loop.call_later(after_s, self._fire)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._on_expired()


class BoundedWrites(asyncio.Protocol):
    """Aborts the connection of a peer that does not read in time."""

    config: uvicorn.Config
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._stall_timeout_s = cast(TransportConfig, self.config).stall_timeout_s
        self._write_deadline = Deadline(self.loop, self._abort)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._write_deadline.disarm()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline.arm(self._stall_timeout_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline.disarm()

    def _abort(self) -> None:
        """Discards the kernel's send buffer too, which would otherwise keep the connection open."""
        connection = self.transport.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class HttpConnection(BoundedWrites, H11Protocol):
    """A request must arrive in time, and its response must be read in time.

    Browsers open connections in advance: one that sends nothing is closed without a response.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._request_deadline = Deadline(self.loop, self._give_up_request)
        self._body_ends_at_s: float | None = None
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._request_deadline.arm(self._stall_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_deadline.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is self:  # else the connection was upgraded to a WebSocket
            self._watch_request()

    def _watch_request(self) -> None:
        """All headers share one deadline; a body must keep arriving, and end before BODY_TIMEOUT_S."""
        if self.conn.their_state is h11.SEND_BODY:
            now_s = self.loop.time()
            self._body_ends_at_s = self._body_ends_at_s or now_s + BODY_TIMEOUT_S
            self._request_deadline.arm(min(self._stall_timeout_s, self._body_ends_at_s - now_s))
            return
        self._body_ends_at_s = None
        if self.conn.their_state is not h11.IDLE:
            self._request_deadline.disarm()
        elif not self._request_deadline.armed:
            self._request_deadline.arm(self._stall_timeout_s)

    def _give_up_request(self) -> None:
        if (
            self.flow.read_paused or self.conn.they_are_waiting_for_100_continue
        ):  # the app is slow, not the client
            self._request_deadline.arm(self._stall_timeout_s)
        elif self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._answer_request_timeout()
        else:
            self._abort()

    def _answer_request_timeout(self) -> None:
        headers = [("connection", "close"), ("content-length", "0")]
        response = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
        for event in (response, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self._write_deadline.disarm()
        self._request_deadline.disarm()
        successor = self.transport.get_protocol()
        if self.flow.write_paused and isinstance(successor, WebSocketConnection):
            successor.pause_writing()  # the transport calls this once, and has called it on this protocol

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(STOP_GRACE_S, self._abort)


class WebSocketConnection(BoundedWrites, WebSocketsSansIOProtocol):
    """Messages must be read in time; floods of control frames and fragments are refused."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._control_frames = 0
        self._control_window_ends_at_s = 0.0
        super().connection_made(transport)
        self.close_timeout = self._stall_timeout_s

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # Stock uvicorn neither sends the refusal of websockets (for example of 129 headers) nor closes.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # before the handshake ends there is no close frame
            self._abort()
        else:
            super().handle_parser_exception()

    def handle_ping(self) -> None:
        if self._admits_control_frame():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._admits_control_frame():
            super().handle_pong(event)

    def _admits_control_frame(self) -> bool:
        if self.loop.time() >= self._control_window_ends_at_s:
            self._control_window_ends_at_s = self.loop.time() + CONTROL_WINDOW_S
            self._control_frames = 0
        self._control_frames += 1
        if self._control_frames > CONTROL_FRAMES:
            self._refuse(CloseCode.POLICY_VIOLATION, "too many pings")
        return not self.close_sent

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        else:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"over {FRAGMENTS} fragments")

    def send_receive_event_to_app(self) -> None:
        # Stock uvicorn logs a traceback here, and fails if a close frame came in the same read.
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._refuse(CloseCode.INVALID_DATA, "invalid UTF-8")
        else:
            super().send_receive_event_to_app()

    def send_500_response(self) -> None:
        """uvicorn calls this when the app has crashed: too late for a status, not for a close code."""
        if self.handshake_complete:
            self._refuse(CloseCode.INTERNAL_ERROR, "")
        else:
            super().send_500_response()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()
            self._refuse(CloseCode.GOING_AWAY, "stopping")
        else:
            super().shutdown()
        self.loop.call_later(STOP_GRACE_S, self._abort)

    def _refuse(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.handle_parser_exception()


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
