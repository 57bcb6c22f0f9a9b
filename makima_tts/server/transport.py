"""uvicorn's HTTP and WebSocket protocols, with deadlines and limits.

In: bytes from sockets, uvicorn's calls. Out: the same ASGI messages; a peer that reads nothing, sends half a
request or floods is dropped in bounded time and memory. Does not know: the content of messages.

One rule bounds all writes: the transport's high-water mark is zero, so an app waits from the first byte that
the kernel does not accept; and a peer must take bytes as long as some are unsent, in the process or in the
kernel. A peer that takes none until the deadline is reset: ``transport.close()``, all that stock uvicorn
calls, waits for ever.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

HEADERS_BYTES = 16 * 1024
BODY_TIMEOUT_S = 300.0  # the largest upload, 32 MiB, over 1 Mbit/s takes 268 s
KEEP_ALIVE_S = 75  # above the 60 s of common proxies, or they meet a connection that has just closed
STOP_GRACE_S = 1.0
PING_INTERVAL_S = 20.0
MESSAGE_BYTES = 64 * 1024
FRAGMENTS = 1024  # of one message: empty ones cost nothing on the wire and 1 KiB each in memory
CONTROL_FRAMES = 100  # pings and pongs within CONTROL_WINDOW_S: a read full of them blocks the loop for 0.1 s
CONTROL_WINDOW_S = 10.0
# A player that pauses gets longer over HTTP, where no protocol tells the service that it paused.
HTTP_STALL_FACTOR = 2
_SO_NWRITE = 0x1024  # macOS has it, Python does not
_log = structlog.get_logger(__name__)


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
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=stall_timeout_s,
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


def kernel_unsent_bytes(connection: Any) -> int:
    """Bytes that the kernel holds for a peer which has not acknowledged them; 0 where it does not tell.

    Then (neither Linux nor macOS) a peer has taken what the kernel has accepted.
    """
    with suppress(OSError, ValueError):  # ValueError: the socket is closed
        if sys.platform == "linux":
            return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if sys.platform == "darwin":
            return int(connection.getsockopt(socket.SOL_SOCKET, _SO_NWRITE))
    return 0


class WatchedTransport:
    """A transport that resets its connection when the peer takes no byte for ``stall_timeout_s``.

    Only while bytes are unsent: between its messages a connection may be silent. A peer has taken what was
    written and is neither in the transport's buffer nor in the kernel's. The kernel accepts and reports bytes
    in large steps, so it matters that any were taken, not how many: 64 kbit/s, the lowest rate of all
    formats, fills the steps of Linux's default buffers (up to 130 kB) in 16 s.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._socket = transport.get_extra_info("socket")
        self._check = Deadline(loop, self._check_progress)
        self._written_bytes = self._taken_bytes = 0
        self._made_at_s = self._took_at_s = loop.time()
        transport.set_write_buffer_limits(high=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def watch(self, protocol: str, stall_timeout_s: float) -> None:
        """``protocol`` is for the log. Call it again when another protocol takes over."""
        self._protocol, self._stall_timeout_s = protocol, stall_timeout_s
        self._set_user_timeout(2 * stall_timeout_s)

    def write(self, data: bytes) -> None:
        self._written_bytes += len(data)
        self._transport.write(data)
        if not self._check.armed:
            self._took_at_s = self._loop.time()
            self._check.arm(self._stall_timeout_s / 10)

    def took_since(self, since_s: float) -> bool:
        """Whether the peer took bytes after ``since_s``, on the loop's clock."""
        self._note_progress()
        return self._took_at_s > since_s

    def stop(self) -> None:
        """The connection is lost."""
        self._check.disarm()

    def abort(self) -> None:
        """Discards the kernel's send buffer too, which would otherwise keep the connection open."""
        self.stop()
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _check_progress(self) -> None:
        unsent_bytes, now_s = self._note_progress(), self._loop.time()
        if unsent_bytes == 0:
            return
        left_s = self._took_at_s + self._stall_timeout_s - now_s
        if left_s > 0:
            # Linux counts from the first probe of a closed window, even if bytes were taken since.
            self._set_user_timeout(now_s - self._made_at_s + 2 * self._stall_timeout_s)
            self._check.arm(min(left_s, self._stall_timeout_s / 10))
            return
        _log.warning(
            "peer_stalled",
            protocol=self._protocol,
            reason=f"it took no byte for {self._stall_timeout_s:g} s",
            unsent_bytes=unsent_bytes,
        )
        self.abort()

    def _note_progress(self) -> int:
        """Returns the unsent bytes."""
        unsent_bytes = self._transport.get_write_buffer_size() + kernel_unsent_bytes(self._socket)
        if self._written_bytes - unsent_bytes > self._taken_bytes:
            self._taken_bytes, self._took_at_s = self._written_bytes - unsent_bytes, self._loop.time()
        return unsent_bytes

    def _set_user_timeout(self, timeout_s: float) -> None:
        """For what the kernel holds when the socket is closed: later than the deadline, which is logged."""
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout_s * 1000))


class HttpConnection(H11Protocol):
    """A request must arrive in time, and its response must be read in time.

    Browsers open connections in advance: one that sends nothing is closed without a response.
    """

    config: TransportConfig
    transport: WatchedTransport  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._request_deadline = Deadline(self.loop, self._give_up_request)
        self._body_ends_at_s: float | None = None
        self._stall_timeout_s = self.config.stall_timeout_s
        watched = WatchedTransport(transport, self.loop)
        watched.watch("http", HTTP_STALL_FACTOR * self._stall_timeout_s)
        super().connection_made(cast(asyncio.Transport, watched))
        self.app = self._run_app
        self._request_deadline.arm(self._stall_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.stop()
        self._request_deadline.disarm()
        super().connection_lost(exc)

    async def _run_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """In HTTP/1.0 the end of the connection is the end of a body: only a reset says that it broke off."""
        try:
            await self.config.loaded_app(scope, receive, send)
        finally:
            broke_off = self.cycle.response_started and not self.cycle.response_complete
            if broke_off and scope["http_version"] == "1.0":
                self.transport.abort()

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
            self.transport.abort()

    def _answer_request_timeout(self) -> None:
        headers = [("connection", "close"), ("content-length", "0")]
        response = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
        for event in (response, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self._request_deadline.disarm()
        successor = self.transport.get_protocol()
        if self.flow.write_paused and isinstance(successor, WebSocketConnection):
            successor.pause_writing()  # the transport calls this once, and has called it on this protocol

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(STOP_GRACE_S, self.transport.abort)


class WebSocketConnection(WebSocketsSansIOProtocol):
    """Messages must be read in time; floods of control frames and fragments are refused."""

    config: TransportConfig
    transport: WatchedTransport  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._control_frames = 0
        self._control_window_ends_at_s = 0.0
        super().connection_made(transport)
        self.close_timeout = self.config.stall_timeout_s
        self.transport.watch("websocket", self.config.stall_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.stop()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        """A ping waits behind audio that a slow peer has not read: one that takes bytes is alive."""
        if self.transport.took_since(self.loop.time() - self.config.stall_timeout_s):
            self.pong_timer = self.loop.call_later(self.config.stall_timeout_s, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # Stock uvicorn neither sends the refusal of websockets (for example of 129 headers) nor closes.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # before the handshake ends there is no close frame
            self.transport.abort()
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
        self.loop.call_later(STOP_GRACE_S, self.transport.abort)

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
