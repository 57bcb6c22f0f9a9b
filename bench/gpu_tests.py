"""The tests that need a GPU.

In: nothing. Out: how many of them passed, failed, were skipped, did not end. Does not know: what they test.

Kernels are compiled for every size that a test brings, a second or more each: so the tests are dealt out to
several processes, and those that time does not suffice for are counted, too.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bench.gpu_findings import Findings, Given, given
from bench.processes import ROOT

_MARK = "mark.gpu"
# A machine's own plugins are for another release of pytest.
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
# Warnings of other versions than the pinned ones are no failures here.
_OPTIONS = ("-o", "addopts=", "-W", "default", *(option for plugin in _PLUGINS for option in ("-p", plugin)))
_MOST_PROCESSES = 10
# Before the time is up: what was said until then has to be counted.
_REPORTING_S = 4.0
_OUTCOME = re.compile(r"^tests/\S.* (PASSED|FAILED|ERROR|SKIPPED)", re.MULTILINE)
_TEST = re.compile(r"^tests/\S+::.+$", re.MULTILINE)


def marked(folder: Path) -> list[str]:
    """Files with such tests. Others need not be importable here."""
    return [str(path) for path in sorted(folder.rglob("test_*.py")) if _MARK in path.read_text()]


def counts(said: str, tests: int) -> dict[str, int]:
    """From what pytest says of each test."""
    found = Counter(_OUTCOME.findall(said))
    ended = found.total()
    failed = found["FAILED"] + found["ERROR"]
    return {
        "passed": found["PASSED"],
        "failed": failed,
        "skipped": found["SKIPPED"],
        "not ended": tests - ended,
    }


def run(paths: Sequence[str], name: str, given: Given, findings: Findings) -> None:
    """By pytest; ``name`` is theirs among the findings."""
    until_s = time.monotonic() + given.seconds - _REPORTING_S
    collected, whole = _pytest([*paths, "--collect-only", "-q"], until_s)
    if not whole:
        print(collected)
    tests, said = _TEST.findall(collected), ""
    shares = [share for first in range(_processes()) if (share := tests[first :: _processes()])]
    with ThreadPoolExecutor(_MOST_PROCESSES) as pool:
        ended = [pool.submit(_pytest, [*share, "-v", "-ra"], until_s) for share in shares]
        for each in as_completed(ended):
            print(each.result()[0], flush=True)
            said += each.result()[0] + "\n"
            found = counts(said, len(tests))
            findings.add({f"{name}, {outcome}": count for outcome, count in found.items()})
    # Not pytest's own exit code: kernels that are compiled for the first time overdraw the suites' budgets.
    if not (whole and tests) or found["failed"] or found["not ended"]:
        sys.exit(1)


def _processes() -> int:
    return max(1, min(_MOST_PROCESSES, (os.cpu_count() or 1) // 2))


def _pytest(arguments: Sequence[str], until_s: float) -> tuple[str, bool]:
    """What it said until then, by ``time.monotonic``; and whether it has nothing to complain of."""
    command = [sys.executable, "-m", "pytest", *arguments, *_OPTIONS]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            return process.communicate(timeout=until_s - time.monotonic())[0], process.returncode == 0
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0], False


def measure(given: Given, findings: Findings) -> None:
    run([*marked(ROOT / "tests"), "-m", "gpu"], "GPU tests", given, findings)


if __name__ == "__main__":
    measure(*given(__doc__))
