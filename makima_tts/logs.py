"""How the service logs: one line an event, readable on a terminal, JSON elsewhere.

In: level and format. Out: configured structlog and standard logging. Does not know: what is logged; whoever
logs writes ids, codes and counts, never what a user sent.
"""

import logging
import sys
import traceback
from typing import Literal

import structlog
from structlog.typing import EventDict

LogFormat = Literal["auto", "json", "console"]


def _without_words(logger: object, method: str, event: EventDict) -> EventDict:
    """An exception as its type and where it was raised: its words may quote what a user sent."""
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
    """The last few, of which the last one raised; of a group, those of its first cause."""
    inner = _frames_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else []
    return inner or traceback.extract_tb(error.__traceback__)[-8:]


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    _without_words,
]


def configure(level: str, log_format: LogFormat) -> None:
    """Both our own logs and those of libraries go to standard error, in one format."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    readable = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(readable)],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[output], force=True)
    # uvicorn tells of every connection at info; the service logs its own sessions.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def _rendering(readable: bool) -> list[structlog.typing.Processor]:
    if readable:
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [structlog.processors.JSONRenderer()]
