"""Time budgets of the suites, and the plugin that enforces them.

In: the duration of every test, and of the run. Out: a table at the end of the run, and a failed run when a
suite exceeds its budget. Does not know: what is tested, how many processes test.

A budget is about twice the duration of the suite beside another suite on two cores: a short load peak does
not matter, a test that waits for a timeout does. A whole run should take TOTAL_S on two idle cores, and fails
only far beyond that.
"""

import time
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TOTAL_S = 600
# A run fails beyond this multiple of TOTAL_S, to allow for a busy machine.
TOTAL_TOLERANCE = 1.5

BUDGETS_S = {
    "alignment": 40,
    "api": 140,
    "architecture": 60,
    "audio": 120,
    "bench": 160,
    "cli": 80,
    "clients": 80,
    "client": 40,
    "containers": 140,
    "docs": 30,
    "engines": 80,
    "examples": 40,
    "gpu": 60,
    "kernels": 220,
    "logs": 5,
    "model": 180,
    "official": 150,
    "page": 240,
    "parity": 180,
    "protocol": 20,
    "qwen3": 240,
    "scheduling": 60,
    "service": 130,
    "session": 45,
    "settings": 5,
    "speaking": 20,
    "speech": 5,
    "text": 80,
    "transport": 80,
    "typescript": 80,
    "voices": 60,
    "wyoming": 30,
}


class SuiteBudgets:
    """Adds up the durations of each folder of tests."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._spent_s: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._spent_s[Path(report.nodeid).parts[1]] += report.duration

    def _overdrawn(self) -> list[str]:
        return [suite for suite, spent_s in self._spent_s.items() if spent_s > BUDGETS_S.get(suite, 0)]

    def _total_s(self) -> float:
        return time.monotonic() - self._began_s

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (
            self._overdrawn() or self._total_s() > TOTAL_TOLERANCE * TOTAL_S
        ) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("time by suite")
        for suite, spent_s in sorted(self._spent_s.items()):
            over = "  OVER ITS BUDGET" if suite in self._overdrawn() else ""
            line = f"{suite:<14} {spent_s:6.1f} s of {BUDGETS_S.get(suite, 0):3d} s{over}"
            terminalreporter.write_line(line, red=bool(over))
        terminalreporter.write_line(f"from first to last {self._total_s():.1f} s of {TOTAL_S} s")
