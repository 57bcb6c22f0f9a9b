"""Every failure as one shape: ``{"error": {"code", "message"}}``, and never a traceback; OpenAI's under /v1.

In: exceptions of routes. Out: JSON responses. Does not know: which route it was.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from makima_tts.api.openai.errors import openai_error_body, param_of
from makima_tts.errors import Fault, InvalidMessage, PayloadTooLarge, TtsError

_log = structlog.get_logger(__name__)

_UNREADABLE = (
    "it cannot be read. Send an object as JSON, in UTF-8, with Content-Type: application/json; "
    "a file in a form, with Content-Type: multipart/form-data and its boundary."
)


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


def speaks_openai(path: str) -> bool:
    """Whether failures under this path have OpenAI's shape."""
    return path == "/v1" or path.startswith("/v1/")


def error_response(error: TtsError, scope: Scope) -> JSONResponse:
    """With Retry-After, in whole seconds, where the error says when."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    failure = _Failure(error.http_status, error.code, error.message, param_of(error))
    return failure.response(scope, headers)


def install_failures(app: FastAPI) -> None:
    """Let every failure of ``app`` answer in this shape."""

    @app.exception_handler(TtsError)
    async def on_tts_error(request: Request, error: TtsError) -> JSONResponse:
        if error.fault is Fault.SERVER:
            _log.warning("request_failed", route=_route_of(request), code=error.code)
        return error_response(error, request.scope)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        if status is HTTPStatus.BAD_REQUEST:  # the body could not be taken apart
            return _Failure(status, InvalidMessage.code, f"In `body`: {_UNREADABLE}").response(request.scope)
        too_large = status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        code = PayloadTooLarge.code if too_large else status.name
        failure = _Failure(status, code, f"{status.phrase}. {status.description}".strip())
        return failure.response(request.scope, error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return _first_fault(error).response(request.scope)

    @app.exception_handler(Exception)
    async def on_surprise(request: Request, error: Exception) -> JSONResponse:
        _log.error("request_failed", route=_route_of(request), error=type(error).__name__)
        message = "Something went wrong here; the server's log says what."
        return _Failure(500, "INTERNAL_SERVER_ERROR", message).response(request.scope)


@dataclass(frozen=True, slots=True)
class _Failure:
    """``param``: the field at fault, for those who are told."""

    status: int
    code: str
    message: str
    param: str | None = None

    def response(self, scope: Scope, headers: Mapping[str, str] | None = None) -> JSONResponse:
        body = self._openai() if speaks_openai(scope["path"]) else self._own()
        return JSONResponse(body.model_dump(), self.status, headers)

    def _own(self) -> BaseModel:
        return ErrorBody(error=ErrorFields(code=self.code, message=self.message))

    def _openai(self) -> BaseModel:
        return openai_error_body(self.status, self.code, self.message, self.param)


def _route_of(request: Request) -> str:
    """The route's pattern: a path may hold what a user wrote."""
    return getattr(request.scope.get("route"), "path", "none")


def _first_fault(error: RequestValidationError) -> _Failure:
    """In words, without the input that pydantic would repeat."""
    first = error.errors()[0]
    param = next((str(part) for part in first["loc"][1:2] if first["type"] != "json_invalid"), None)
    if first["type"] == "model_attributes_type" and param is None:
        return _Failure(400, InvalidMessage.code, f"In `body`: {_UNREADABLE}")
    reason = "not JSON" if first["type"] == "json_invalid" else first["msg"].removeprefix("Value error, ")
    return _Failure(400, InvalidMessage.code, f"In `{param or 'body'}`: {reason}.", param)
