"""Logging: one line an event, readable on a terminal, JSON elsewhere. Never the text that a user sent."""

import logging
import sys
import traceback
from typing import Literal

import structlog
from structlog.typing import EventDict

LogFormat = Literal["auto", "json", "console"]


def _without_message(logger: object, method: str, event: EventDict) -> EventDict:
    """An exception as its type and origin: its message may quote a user's text."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else sys.exc_info()[1] if info is True else info
    if isinstance(error, BaseException):
        event["error"] = ", ".join(_types_of(error))
        event["raised_at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in _frames_of(error)]
    return event


def _types_of(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [name for inner in error.exceptions for name in _types_of(inner)]
    return [type(error).__name__]


def _frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The innermost ones; of a group, those of its first exception."""
    inner = _frames_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else []
    return inner or traceback.extract_tb(error.__traceback__)[-8:]


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    _without_message,
]


def configure(level: str, log_format: LogFormat) -> None:
    """Logs of this package and of libraries go to standard error, in one format."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    terminal = sys.stderr.isatty()
    readable = log_format == "console" or (log_format == "auto" and terminal)
    renderer = (
        structlog.dev.ConsoleRenderer(colors=terminal) if readable else structlog.processors.JSONRenderer()
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[output], force=True)
    # At info uvicorn logs every connection; the service logs its sessions itself.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
