"""How the service logs: one line an event, readable on a terminal, JSON elsewhere.

In: level and format. Out: configured structlog and standard logging. Does not know: what is logged; whoever
logs writes ids, codes and counts, never what a user sent.
"""

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["auto", "json", "console"]

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
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
        plain = structlog.dev.RichTracebackFormatter(show_locals=False)
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
