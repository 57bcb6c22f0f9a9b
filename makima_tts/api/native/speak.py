"""The WebSocket, and what turns a connection away.

In: upgrades. Out: connections, and what is said over them as AsyncAPI. Does not know: the conversation.
"""

from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from makima_tts import __version__
from makima_tts.api.native.connection import Connection, accepted_subprotocol
from makima_tts.api.native.dialects import Dialect, OwnDialect
from makima_tts.api.omni.dialect import OmniDialect
from makima_tts.api.openai.voice_names import OpenAIVoices
from makima_tts.api.service import Service
from makima_tts.errors import RateLimited
from makima_tts.protocol import ErrorMessage, asyncapi_document, serialize

_RETRY_AFTER_S = 5.0
_CLOSE_NO_CAPACITY = 1013
_CLOSE_TOO_OFTEN = 4429


def speak_router(service: Service, voices: OpenAIVoices) -> APIRouter:
    """``/api/v1/speak`` and ``/asyncapi.json``, which describes it; vLLM-Omni's. See docs/protocol.md."""
    router = APIRouter()
    description = asyncapi_document(__version__)

    @router.websocket("/api/v1/speak")
    async def speak(websocket: WebSocket) -> None:
        await _serve(websocket, service, OwnDialect(events=accepted_subprotocol(websocket) is not None))

    @router.websocket("/v1/audio/speech/stream")
    async def speak_as_omni(websocket: WebSocket) -> None:
        rate_hz = service.engine.facts.sample_rate_hz
        dialect = OmniDialect(voices.library_name, limits=service.limits, engine_rate_hz=rate_hz)
        await _serve(websocket, service, dialect)

    @router.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> dict[str, Any]:
        return description

    return router


async def _serve(websocket: WebSocket, service: Service, dialect: Dialect) -> None:
    address = websocket.client.host if websocket.client else ""
    if not service.allow_connection(address):
        await _turn_away(websocket, service, "too_often", _CLOSE_TOO_OFTEN)
    elif service.full:
        await _turn_away(websocket, service, "full", _CLOSE_NO_CAPACITY)
    else:
        await Connection(websocket, service, dialect).run()


async def _turn_away(websocket: WebSocket, service: Service, reason: str, code: int) -> None:
    """A close that says why needs an accepted connection; a bare 403 would tell a browser nothing."""
    service.metrics.rejected.labels(reason=reason).inc()
    error = RateLimited(
        "No room for another connection now; try again shortly.", retry_after_s=_RETRY_AFTER_S
    )
    message = ErrorMessage(
        code=error.code,
        message=error.message,
        recoverable=error.recoverable,
        retry_after_ms=round(_RETRY_AFTER_S * 1000),
    )
    try:
        await websocket.accept(subprotocol=accepted_subprotocol(websocket))
        await websocket.send_text(serialize(message))
        await websocket.close(code)
    except WebSocketDisconnect:
        return
