"""What is turned away before any route sees it: foreign pages, oversized bodies, crowds of uploads.

In: ASGI scopes. Out: the same, or a refusal. Does not know: routes.

CORS headers do not protect a WebSocket, nor a multipart form that any page may submit; so the Origin itself
is checked, on every upgrade and on every request that changes something. Clients that are no browsers send
none, and pass.
"""

import asyncio
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makima_tts.api.failures import error_response
from makima_tts.errors import Forbidden, PayloadTooLarge, RateLimited

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# 20,000 code points, each as two six-byte escapes, and the fields around them.
_MAX_JSON_BYTES = 256 * 1024
_UPLOADS_AT_ONCE = 2
_RETRY_AFTER_S = 5.0
# Whose plug was pulled says nothing, and would keep a place for ever.
_UPLOAD_SILENCE_S = 30.0


class OriginGuard:
    """``allowed``: origins besides the same one and localhost; ``*`` allows any."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "websocket" or scope.get("method", "GET") not in _SAFE_METHODS
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else Headers()
        if not changes or self._may_pass(headers.get("origin"), headers.get("host")):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            error = Forbidden(
                "Pages of this origin may not do this; the operator can add it to TTS_ALLOWED_ORIGINS."
            )
            await error_response(error, scope)(scope, receive, send)

    def _may_pass(self, origin: str | None, host: str | None) -> bool:
        if origin is None or "*" in self._allowed or origin.rstrip("/") in self._allowed:
            return True
        try:
            page = urlsplit(origin)
        except ValueError:
            return False
        return page.netloc == host or page.hostname in _LOCAL_HOSTS


class BodyLimit:
    """413 for bodies over the limit, declared or not. ``upload_paths`` take ``max_upload_bytes``."""

    def __init__(self, app: ASGIApp, upload_paths: tuple[str, ...], max_upload_bytes: int) -> None:
        self._upload_paths = upload_paths
        self._max_upload_bytes = max_upload_bytes
        self._uploads = RequestBodyLimitMiddleware(app, max_upload_bytes)
        self._others = RequestBodyLimitMiddleware(app, _MAX_JSON_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upload = scope.get("path") in self._upload_paths
        limit_bytes = self._max_upload_bytes if upload else _MAX_JSON_BYTES
        if scope["type"] == "http" and _declared_bytes(scope) > limit_bytes:
            error = PayloadTooLarge(f"The body is too large; send at most {limit_bytes} bytes.")
            await error_response(error, scope)(scope, receive, send)
        else:
            await (self._uploads if upload else self._others)(scope, receive, send)


class UploadGate:
    """Uploads are spooled before any route sees them: so many at once, and the others are asked to wait."""

    def __init__(self, app: ASGIApp, upload_paths: tuple[str, ...]) -> None:
        self._app = app
        self._upload_paths = upload_paths
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") not in self._upload_paths or scope.get("method") != "POST":
            await self._app(scope, receive, send)
        elif self._under_way >= _UPLOADS_AT_ONCE:
            error = RateLimited(
                "Other uploads are under way; try again shortly.", retry_after_s=_RETRY_AFTER_S
            )
            await error_response(error, scope)(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(scope, partial(_received, receive), send)
            finally:
                self._under_way -= 1


async def _received(receive: Receive) -> Message:
    """Raises TimeoutError: the body that is being read cannot be."""
    async with asyncio.timeout(_UPLOAD_SILENCE_S):
        return await receive()


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0
