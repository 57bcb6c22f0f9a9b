"""Every failure as one shape: ``{"error": {"code", "message"}}``, and never a traceback.

In: exceptions of routes. Out: JSON responses. Does not know: which route it was.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from makima_tts.errors import Fault, InvalidMessage, PayloadTooLarge, TtsError

_log = structlog.get_logger(__name__)


class ErrorFields(BaseModel):
    """``code`` is for programs, ``message`` for people."""

    code: str
    message: str


class ErrorBody(BaseModel):
    """What every failure answers."""

    error: ErrorFields


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: which failures it may answer with."""
    return {status: {"model": ErrorBody} for status in statuses}


def error_response(error: TtsError) -> JSONResponse:
    """With Retry-After, in whole seconds, where the error says when."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    return _response(error.http_status, error.code, error.message, headers)


def install_failures(app: FastAPI) -> None:
    """Let every failure of ``app`` answer in this shape."""

    @app.exception_handler(TtsError)
    async def on_tts_error(request: Request, error: TtsError) -> JSONResponse:
        if error.fault is Fault.SERVER:
            _log.warning("request_failed", route=_route_of(request), code=error.code)
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        too_large = status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        code = PayloadTooLarge.code if too_large else status.name
        return _response(status, code, f"{status.phrase}. {status.description}".strip(), error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return _response(400, InvalidMessage.code, _first_fault(error))

    @app.exception_handler(Exception)
    async def on_surprise(request: Request, error: Exception) -> JSONResponse:
        _log.error("request_failed", route=_route_of(request), error=type(error).__name__)
        return _response(
            500, "INTERNAL_SERVER_ERROR", "Something went wrong here; the server's log says what."
        )


def _route_of(request: Request) -> str:
    """The route's pattern: a path may hold what a user wrote."""
    return getattr(request.scope.get("route"), "path", "none")


def _first_fault(error: RequestValidationError) -> str:
    """In words, without the input that pydantic would repeat."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:2]) or "body"
    reason = "not JSON" if first["type"] == "json_invalid" else first["msg"].removeprefix("Value error, ")
    return f"In `{where}`: {reason}."


def _response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = ErrorBody(error=ErrorFields(code=code, message=message))
    return JSONResponse(body.model_dump(), status, headers)
