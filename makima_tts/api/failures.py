"""Every failure as one shape: ``{"error": {"code", "message"}}``, and never a traceback; OpenAI's under /v1.

In: exceptions of routes. Out: JSON responses. Does not know: which route it was.
"""

import math
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from makima_tts.errors import (
    InvalidClip,
    InvalidMessage,
    InvalidText,
    PayloadTooLarge,
    TtsError,
    VoiceNotFound,
)

OpenAIErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]
# The types that OpenAI has for some statuses; any other is the client's below 500.
_OPENAI_TYPES: dict[int, OpenAIErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    408: "server_error",  # it is the service that was too slow
    429: "rate_limit_error",
}
# The codes that only one field can have led to.
_OPENAI_PARAMS = {InvalidText.code: "input", VoiceNotFound.code: "voice", InvalidClip.code: "audio_sample"}
_UNREADABLE = (
    "it cannot be read. Send an object as JSON, in UTF-8, with Content-Type: application/json; "
    "a file in a form, with Content-Type: multipart/form-data and its boundary."
)
_Headers = Mapping[str, str] | None
_log = structlog.get_logger(__name__)


class ErrorFields(BaseModel):
    """``code`` is for programs, ``message`` for people."""

    code: str
    message: str
    reason: str | None = Field(None, description='"nothing_to_say": the text has no words')


class ErrorBody(BaseModel):
    """What every failure answers."""

    error: ErrorFields


class OpenAIErrorFields(BaseModel):
    """``code`` is the service's own, the same as on every other path."""

    message: str
    type: OpenAIErrorType
    param: str | None = Field(description="The field that is at fault, if it is one")
    code: str


class OpenAIErrorBody(BaseModel):
    """What every failure under /v1 answers."""

    error: OpenAIErrorFields


def failures(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: the failures that it may answer with."""
    return {status: {"model": body} for status in statuses}


# The same for a route under /v1.
openai_failures = partial(failures, body=OpenAIErrorBody)


def openai_error_body(status: int, code: str, message: str, param: str | None = None) -> OpenAIErrorBody:
    """``param``: the field at fault, if the code does not say it."""
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = param or _OPENAI_PARAMS.get(code)
    return OpenAIErrorBody(error=OpenAIErrorFields(message=message, type=kind, param=param, code=code))


def has_openai_errors(path: str) -> bool:
    """Whether failures under this path have OpenAI's shape."""
    return path == "/v1" or path.startswith("/v1/")


def route_path(scope: Scope) -> str:
    """The path of a request without the prefix of a proxy; empty if it has none."""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))


def error_response(error: TtsError, scope: Scope) -> JSONResponse:
    """With Retry-After, in whole seconds, where the error has one."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    status, reason = error.http_status, error.reason
    return _response(scope, status, error.code, error.message, reason=reason, headers=headers)


def install_failures(app: FastAPI) -> None:
    """Let every failure of ``app`` answer in this shape."""

    @app.exception_handler(TtsError)
    async def on_tts_error(request: Request, error: TtsError) -> JSONResponse:
        if error.logged:
            _log.warning("request_failed", route=_route_of(request), code=error.code)
        return error_response(error, request.scope)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        if status is HTTPStatus.BAD_REQUEST:  # the body could not be parsed
            return _response(request.scope, 400, InvalidMessage.code, f"In `body`: {_UNREADABLE}")
        too_large = status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        code = PayloadTooLarge.code if too_large else status.name
        message = f"{status.phrase}. {status.description}".strip()
        if status is HTTPStatus.NOT_FOUND and (address := _openai_address(app, request.url.path)):
            message = f"{status.phrase}. OpenAI's API is under /v1 here: {address}."
        return _response(request.scope, status, code, message, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = _first_fault(error)
        return _response(request.scope, 400, InvalidMessage.code, message, param=param)

    @app.exception_handler(Exception)
    async def on_surprise(request: Request, error: Exception) -> JSONResponse:
        _log.error("request_failed", route=_route_of(request), error=type(error).__name__)
        message = "Something went wrong here; the server's log says what."
        return _response(request.scope, 500, "INTERNAL_SERVER_ERROR", message)


def no_websocket(scope: Scope) -> JSONResponse:
    """For an upgrade at a path that has no WebSocket."""
    message = "There is no WebSocket here; /api/v1/speak is one, and /v1/audio/speech/stream."
    return _response(scope, 404, HTTPStatus.NOT_FOUND.name, message)


def _response(
    scope: Scope,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    reason: str | None = None,
    headers: _Headers = None,
) -> JSONResponse:
    if has_openai_errors(route_path(scope)):
        body = openai_error_body(status, code, message, param).model_dump()
    else:
        fields = ErrorFields(code=code, message=message, reason=reason)
        body = ErrorBody(error=fields).model_dump(exclude_none=True)
    return JSONResponse(body, status, headers)


def _openai_address(app: FastAPI, path: str) -> str | None:
    """The path under /v1 with the same end: base URLs lack the /v1, or have it twice."""
    known = [known for known in app.openapi()["paths"] if has_openai_errors(known)]
    ends = (f"{path.rstrip('/')}".endswith(known.removeprefix("/v1")) for known in known)
    return max((path for path, same in zip(known, ends, strict=True) if same), key=len, default=None)


def _route_of(request: Request) -> str:
    """The route's pattern: a path may hold a user's words."""
    return getattr(request.scope.get("route"), "path", "none")


def _first_fault(error: RequestValidationError) -> tuple[str, str | None]:
    """A message without the input, which pydantic would repeat; and the field at fault."""
    first = error.errors()[0]
    param = next((str(part) for part in first["loc"][1:2] if first["type"] != "json_invalid"), None)
    if first["type"] == "model_attributes_type" and param is None:
        return f"In `body`: {_UNREADABLE}", None
    reason = "not JSON" if first["type"] == "json_invalid" else first["msg"].removeprefix("Value error, ")
    return f"In `{param or 'body'}`: {reason}.", param
