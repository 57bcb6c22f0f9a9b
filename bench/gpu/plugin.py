"""The pytest plugin of a part: records what it measures, and what became of it.

In: the options of bench/gpu.sh. Out: the fixtures ``part`` and ``results``; a JSON file, complete after every
figure, so that figures outlive a part that is killed at its limit; the report of all parts so far. Does not
know: what is measured.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.report import CHECKPOINT_WRITTEN, about, write_report
from makima_tts.model import CpuPrecision


@dataclass(frozen=True, slots=True)
class Part:
    """``dry``: small, on a CPU, to test that everything runs. ``until_s``: by ``time.monotonic``."""

    name: str
    folder: Path
    dry: bool
    until_s: float

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def precision(self) -> CpuPrecision:
        return "fp32" if self.dry else "bf16"


@dataclass(slots=True)
class Results:
    """Kept in a file. ``suite``: counts tests as figures with this prefix."""

    path: Path
    suite: str | None = None
    ended: str = "killed at its limit"
    took_s: float = 0.0
    figures: dict[str, float | str | None] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float | str | None]) -> None:
        self.figures |= figures
        self.write()

    def add_row(self, table: str, row: dict[str, Any]) -> None:
        self.tables.setdefault(table, []).append(row)
        self.write()

    def write(self) -> None:
        kept = {"ended": self.ended, "took_s": self.took_s, "figures": self.figures, "tables": self.tables}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(kept))
        new.rename(self.path)


_PART, _RESULTS = pytest.StashKey[Part](), pytest.StashKey[Results]()


@dataclass(eq=False)
class Recorder:
    """``out``: the folder of the report."""

    part: Part
    results: Results
    _out: Path
    _began_s: float = field(default_factory=time.monotonic)
    _outcomes: dict[str, str] = field(default_factory=dict)
    _collected: int = 0
    _reasons: list[str] = field(default_factory=list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collected = max(self._collected, len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        self._collected = len(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._reasons.append(f"{report.nodeid} was not collected")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self._reasons.append(str(crash.message if crash else report.longrepr).splitlines()[0])
        if report.failed or report.when == "call" or report.skipped:
            self._outcomes[report.nodeid] = "failed" if report.failed else report.outcome
        self._write()

    def pytest_sessionfinish(self) -> None:
        missing = self._collected - len(self._outcomes)
        if self._reasons:
            self.results.ended = f"failed: {self._reasons[0][:200]}"
        else:
            self.results.ended = f"{missing} tests did not end" if missing or not self._outcomes else "ok"
        self._write()
        write_report(self.part.folder, self._out, dry=self.part.dry)

    def _write(self) -> None:
        self.results.took_s = time.monotonic() - self._began_s
        if self.results.suite:
            found = Counter(self._outcomes.values())
            counts = {name: found[name] for name in ("passed", "failed", "skipped")}
            counts["not ended"] = self._collected - found.total()
            self.results.figures |= {f"{self.results.suite}, {name}": n for name, n in counts.items()}
        self.results.write()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("measurements on a GPU")
    group.addoption("--part", help="the name of this part")
    group.addoption("--folder", type=Path, help="of all parts, with the checkpoint")
    group.addoption("--out", type=Path, help="of the report")
    group.addoption("--seconds", type=float, help="until this part is killed")
    group.addoption("--suite", help="count tests under this name")
    group.addoption("--dry", action="store_true", help="small, on a CPU")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # the process that started the workers records
        return
    name, folder = config.getoption("part"), config.getoption("folder")
    (folder / "parts").mkdir(exist_ok=True)
    about(folder)
    until_s = time.monotonic() + config.getoption("seconds")
    part = Part(name, folder, config.getoption("dry"), until_s)
    results = Results(folder / "parts" / f"{name}.json", config.getoption("suite"))
    results.write()
    config.stash[_PART], config.stash[_RESULTS] = part, results
    config.pluginmanager.register(Recorder(part, results, config.getoption("out")))


@pytest.fixture
def part(request: pytest.FixtureRequest) -> Part:
    return request.config.stash[_PART]


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Results:
    return request.config.stash[_RESULTS]


@pytest.fixture
def prepared(part: Part) -> Part:
    """The part, if the checkpoint is written."""
    if not (part.folder / CHECKPOINT_WRITTEN).exists():
        pytest.fail("not begun: there is no checkpoint", pytrace=False)
    return part
