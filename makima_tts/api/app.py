"""The ASGI app, and the middleware that refuses requests before any route sees them.

In: a Service. Out: the app with every route; refusals of oversized bodies and too many uploads at once. Does
not know: how the service is run.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makima_tts import __version__
from makima_tts.api.browsers import CrossOrigin, origin_guard, page_headers
from makima_tts.api.failures import (
    ErrorBody,
    OpenAIErrorBody,
    error_response,
    has_openai_errors,
    install_failures,
    no_websocket,
    route_path,
)
from makima_tts.api.inline_clones import MAX_JSON_BYTES
from makima_tts.api.native.routes import STATIC, ops_router, speak_router, tts_router, voices_router
from makima_tts.api.omni.dialect import omni_router
from makima_tts.api.openai.routes import openai_router, openai_voice_lookup, openai_voices_router
from makima_tts.api.proxies import behind_proxies
from makima_tts.api.service import RETRY_AFTER_S, Service
from makima_tts.errors import PayloadTooLarge, RateLimited, UpgradeRequired
from makima_tts.origins import OriginRules

_DESCRIPTION = """Streaming text-to-speech. The main way in is the WebSocket `/api/v1/speak`
(docs/protocol.md in the source); these are the HTTP routes beside it."""

_WEBSOCKET_PATHS = ("/api/v1/speak", "/v1/audio/speech/stream")
_UPLOAD_PATHS = ("/api/v1/voices", "/v1/audio/voices")
_CLONE_PATHS = ("/v1/audio/speech", "/api/v1/tts")
# A minute of 48 kHz in 16 bits has 6 MB. JSON is read in the event loop, which a larger body would hold up.
_MAX_INLINE_CLIP_BYTES = 8 * 1024 * 1024
_UPLOADS_AT_ONCE = 2
_MAX_PARTS = 64 * 1024
# Their bodies are in memory until they are answered.
_CLONES_AT_ONCE = 16
# A client that lost its power sends nothing more, and would count as an upload for ever.
_UPLOAD_SILENCE_S = 30.0


def create_app(
    service: Service,
    *,
    allowed_origins: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
    max_upload_bytes: int,
    openai_speakers: Mapping[str, str | None],
) -> FastAPI:
    """The engine loads in the background of the app's lifespan; routes answer from the first moment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.load_engine())
        try:
            yield
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            await service.voices.close()
            await service.engine.close()
            if service.aligner is not None:
                await service.aligner.close()

    app = _App(
        title="makima-tts", version=__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    install_failures(app)
    look_up_voice = openai_voice_lookup(service.voices, openai_speakers)
    for router in (
        speak_router(service),
        omni_router(service, look_up_voice),
        tts_router(service),
        voices_router(service.voices),
        openai_router(service, look_up_voice),
        openai_voices_router(service.voices),
        ops_router(service),
    ):
        app.include_router(router)
    for path in _WEBSOCKET_PATHS:
        app.add_api_route(path, _refuse_plain_request, include_in_schema=False)

    @app.websocket("/{path:path}")
    async def unknown_path(websocket: WebSocket) -> None:
        await websocket.send_denial_response(no_websocket(websocket.scope))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    # The last one added is met first.
    app.add_middleware(BodyLimit, max_upload_bytes=max_upload_bytes)
    app.add_middleware(head_as_get)
    rules = OriginRules(allowed_origins)
    app.add_middleware(origin_guard, rules=rules)
    app.around = lambda inner: behind_proxies(page_headers(CrossOrigin(inner, rules)), trusted_proxies)
    return app


async def _refuse_plain_request(request: Request) -> Response:
    """What a WebSocket looks like after a proxy that does not pass Upgrade."""
    error = UpgradeRequired(
        "This is the address of a WebSocket, and the request has no Upgrade header. If the client sent one, "
        "a proxy removed it: let the proxy pass Upgrade and Connection, over HTTP/1.1."
    )
    response = error_response(error, request.scope)
    response.headers["Upgrade"] = "websocket"
    return response


def head_as_get(app: ASGIApp) -> ASGIApp:
    """HEAD is GET without the body, on every route."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await app({**scope, "method": "GET"}, receive, send_head)
        else:
            await app(scope, receive, send)

    return answered


class _App(FastAPI):
    """Documents a request that does not fit as what it is answered with: 400, in the path's own shape.

    ``around`` wraps the answers of status 500 too, which Starlette makes outside of all middleware.
    """

    around: Callable[[ASGIApp], ASGIApp]

    def build_middleware_stack(self) -> ASGIApp:
        return self.around(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
                    operation["responses"].setdefault("400", _unfit(path))
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        return schema


def _unfit(path: str) -> dict[str, Any]:
    body = OpenAIErrorBody if has_openai_errors(path) else ErrorBody
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    return {"description": "Bad Request", "content": content}


class BodyLimit:
    """413 for bodies over the limit, declared or not: ``max_upload_bytes`` for uploads.

    Uploads are spooled before any route sees them, so only a few run at once; others are told to wait. So
    are requests to speak with a clip in them: those whose declared length is over the limit of other JSON.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int) -> None:
        inline_bytes = min(max_upload_bytes, _MAX_INLINE_CLIP_BYTES) * 4 // 3 + MAX_JSON_BYTES
        self._app = app
        self._others = RequestBodyLimitMiddleware(app, MAX_JSON_BYTES)
        self._uploads = _LargeBodies(app, max_upload_bytes, at_once=_UPLOADS_AT_ONCE)
        self._clones = _LargeBodies(app, inline_bytes, at_once=_CLONES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, declared_bytes, is_post = route_path(scope), _declared_bytes(scope), scope["method"] == "POST"
        if is_post and path in _UPLOAD_PATHS:
            await self._uploads(scope, receive, send, declared_bytes)
        elif is_post and path in _CLONE_PATHS and declared_bytes > MAX_JSON_BYTES:
            await self._clones(scope, _of_few_parts(receive), send, declared_bytes)
        elif declared_bytes > MAX_JSON_BYTES:
            await _too_large(MAX_JSON_BYTES, scope)(scope, receive, send)
        else:
            await self._others(scope, receive, send)


class _LargeBodies:
    """Bodies of at most ``limit_bytes``, of which ``at_once`` are under way at most."""

    def __init__(self, app: ASGIApp, limit_bytes: int, *, at_once: int) -> None:
        self._limited = RequestBodyLimitMiddleware(app, limit_bytes)
        self._limit_bytes = limit_bytes
        self._at_once = at_once
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send, declared_bytes: int) -> None:
        if self._under_way >= self._at_once:
            message = "Other uploads are under way; try again shortly."
            busy = RateLimited(message, retry_after_s=RETRY_AFTER_S)
            await error_response(busy, scope)(scope, receive, send)
        elif declared_bytes > self._limit_bytes:
            await _too_large(self._limit_bytes, scope)(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._limited(scope, _in_time(receive), send)
            finally:
                self._under_way -= 1


def _too_large(limit_bytes: int, scope: Scope) -> Response:
    error = PayloadTooLarge(f"The body is too large; send at most {limit_bytes} bytes.")
    return error_response(error, scope)


def _in_time(receive: Receive) -> Receive:
    """``receive``, which raises TimeoutError when a body does not go on. Its client may wait after it."""
    whole = False

    async def receive_in_time() -> Message:
        nonlocal whole
        async with asyncio.timeout(None if whole else _UPLOAD_SILENCE_S):
            message = await receive()
        whole = not message.get("more_body", False)
        return message

    return receive_in_time


def _of_few_parts(receive: Receive) -> Receive:
    """``receive``, which raises PayloadTooLarge for JSON of many parts: to read it would take seconds."""
    parts = 0

    async def receive_few() -> Message:
        nonlocal parts
        message = await receive()
        parts += sum(map(message.get("body", b"").count, (b"[", b"{", b",")))
        if parts > _MAX_PARTS:
            raise PayloadTooLarge("The body has too many parts beside its clip.")
        return message

    return receive_few


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0
