"""Every failure as one shape: ``{"error": {"code", "message"}}``, and never a traceback.

In: exceptions of routes. Out: JSON responses. Does not know: which route it was.
"""

import math
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from makima_tts.errors import TtsError

_log = structlog.get_logger(__name__)


class ErrorFields(BaseModel):
    """``code`` is for programs, ``message`` for people."""

    code: str
    message: str


class ErrorBody(BaseModel):
    """What every failure answers."""

    error: ErrorFields


def error_response(error: TtsError) -> JSONResponse:
    """With Retry-After, in whole seconds, where the error says when."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    return _response(error.http_status, error.code, error.message, headers)


def install_failures(app: FastAPI) -> None:
    """Let every failure of ``app`` answer in this shape."""
    app.add_exception_handler(TtsError, _on_tts_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_surprise)


def _response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = ErrorBody(error=ErrorFields(code=code, message=message))
    return JSONResponse(body.model_dump(), status, headers)


async def _on_tts_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TtsError)
    return error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = "PAYLOAD_TOO_LARGE" if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE else status.name
    headers = dict(error.headers) if error.headers else None
    return _response(status, code, f"{status.phrase}. {status.description}".strip(), headers)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    """The first fault, without the input that pydantic would repeat."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:2]) or "body"
    reason = "not JSON" if first["type"] == "json_invalid" else first["msg"].removeprefix("Value error, ")
    return _response(400, "INVALID_MESSAGE", f"In `{where}`: {reason}.")


async def _on_surprise(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_failed", route=request.scope.get("path"), error=type(error).__name__)
    return _response(500, "INTERNAL_SERVER_ERROR", "Something went wrong here; the server's log says what.")
