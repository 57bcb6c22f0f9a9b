"""The content of log lines."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
import structlog
from makima_tts import logs
logs.configure("info", sys.argv[1])
try:
    raise ExceptionGroup("geheim", [ValueError("geheim")])
except ExceptionGroup:
    structlog.get_logger("ours").exception("it_broke", code="X")
    logging.getLogger("theirs").exception("it broke too")
structlog.get_logger("ours").debug("too quiet to hear")
"""


def lines(log_format: str) -> list[str]:
    """Standard error of a process with this log format; it is not a terminal."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_off_a_terminal_a_line_is_json_with_time_level_and_origin() -> None:
    ours, theirs = [json.loads(line) for line in lines("auto")]
    assert (ours["event"], ours["level"], ours["logger"], ours["code"]) == ("it_broke", "error", "ours", "X")
    assert (theirs["event"], theirs["logger"]) == ("it broke too", "theirs")
    assert all("timestamp" in line for line in (ours, theirs))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_logged_as_type_and_location_without_its_message(log_format: str) -> None:
    written = lines(log_format)
    assert "geheim" not in "".join(written)
    for line in written:
        assert "ValueError" in line
        assert "<string>:7 <module>" in line
