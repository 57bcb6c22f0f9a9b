"""The tests that need a GPU.

In: nothing. Out: how many of them passed, failed, were skipped. Does not know: what they test.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from bench.gpu_findings import Findings, Given, given
from bench.processes import ROOT

_MARK = "mark.gpu"
# A machine's own plugins are for another release of pytest.
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")


def marked(folder: Path) -> list[str]:
    """Files with such tests. Others need not be importable here."""
    return [str(path) for path in sorted(folder.rglob("test_*.py")) if _MARK in path.read_text()]


def counts(report: Path) -> dict[str, int]:
    suite = next(Xml.parse(report).iter("testsuite"))  # noqa: S314, pytest has just written it
    all_of_them, skipped = (int(suite.get(name, 0)) for name in ("tests", "skipped"))
    failed = sum(int(suite.get(name, 0)) for name in ("failures", "errors"))
    return {"passed": all_of_them - skipped - failed, "failed": failed, "skipped": skipped}


def run(paths: Sequence[str], name: str, given: Given, findings: Findings) -> None:
    """By pytest; ``name`` is theirs among the findings."""
    report = given.folder / f"{name}.xml"
    # Warnings of other versions than the pinned ones are no failures here.
    options = ["-W", "default", f"--junitxml={report}", "-ra"]
    options += [option for plugin in _PLUGINS for option in ("-p", plugin)]
    subprocess.run(
        [sys.executable, "-m", "pytest", *paths, *options],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    found = counts(report)
    findings.add({f"{name}, {outcome}": count for outcome, count in found.items()})
    # Not pytest's own exit code: kernels that are compiled for the first time overdraw the suites' budgets.
    if found["failed"] or not any(found.values()):
        sys.exit(1)


def measure(given: Given, findings: Findings) -> None:
    run([*marked(ROOT / "tests"), "-m", "gpu"], "GPU tests", given, findings)


if __name__ == "__main__":
    measure(*given(__doc__))
