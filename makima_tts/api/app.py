"""The ASGI app.

In: a Service. Out: the app, with every route and guard in its place. Does not know: how the service is run.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from makima_tts import __version__
from makima_tts.api.failures import ErrorBody, OpenAIErrorBody, has_openai_errors, install_failures
from makima_tts.api.guards import BodyLimit, OriginGuard, UploadGate
from makima_tts.api.native.routes import STATIC, ops_router, speak_router, tts_router, voices_router
from makima_tts.api.omni.dialect import omni_router
from makima_tts.api.openai.routes import OpenAIVoices, openai_router, openai_voices_router
from makima_tts.api.service import Service

_DESCRIPTION = """Streaming text-to-speech. The main way in is the WebSocket `/api/v1/speak`
(docs/protocol.md in the source); these are the HTTP routes beside it."""

_UPLOAD_PATHS = ("/api/v1/voices", "/v1/audio/voices")
# Nothing of the page comes from elsewhere, nothing inline runs, no other page may frame it.
_PAGE_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; worker-src 'self' blob:; "
        b"img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# FastAPI's documentation page is the one that loads its scripts from elsewhere.
_DOCS_PATHS = ("/docs", "/docs/oauth2-redirect")


def create_app(
    service: Service,
    *,
    allowed_origins: tuple[str, ...],
    max_upload_bytes: int,
    openai_speakers: Mapping[str, str | None],
) -> FastAPI:
    """The engine loads in the background of the app's lifespan; routes answer from the first moment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.engine_status.load())
        try:
            yield
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            await service.voices.close()
            await service.engine.close()

    app = _App(
        title="makima-tts", version=__version__, description=_DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    install_failures(app)
    openai_voices = OpenAIVoices(service.voices, openai_speakers)
    for router in (
        speak_router(service),
        omni_router(service, openai_voices.library_name),
        tts_router(service),
        voices_router(service.voices),
        openai_router(service, openai_voices),
        openai_voices_router(service.voices),
        ops_router(service),
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    # The last one added is met first.
    app.add_middleware(BodyLimit, upload_paths=_UPLOAD_PATHS, max_upload_bytes=max_upload_bytes)
    app.add_middleware(UploadGate, upload_paths=_UPLOAD_PATHS)
    app.add_middleware(OriginGuard, allowed=allowed_origins)
    app.add_middleware(PageHeaders)
    return app


class _App(FastAPI):
    """Documents a request that does not fit as what it is answered with: 400, in the path's own shape."""

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


class PageHeaders:
    """Security headers on every HTTP answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_PAGE_HEADERS]}
            await send(message)

        guarded = scope["type"] == "http" and scope["path"] not in _DOCS_PATHS
        await self._app(scope, receive, send_with_headers if guarded else send)
