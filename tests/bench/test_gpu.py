"""bench/gpu.sh, dry: every part runs, on a CPU with a tiny checkpoint; and its limits, report and search."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.gpu import peer, test_server, wheels
from bench.gpu.plugin import Part, Results
from bench.gpu.report import PARTS, TARGETS, target_rows
from bench.listeners import ListenerResult, audio_per_second
from bench.load import StreamSearch
from bench.report import table
from bench.server import ROOT
from tests.transport.processes import eventually

# A CPU has no such batches, and no card.
NOT_DRY = {"frame of each, batch 32, ms", "frame of each, batch 128, ms", "frame of each, batch 256, ms"}
NOT_DRY |= {"memory, 8 streams, GB"}


def run_bash(script: str, *, out: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={"OUT": str(out), "PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.process
@pytest.mark.timeout(240)
def test_every_part_runs_dry(tmp_path: Path) -> None:
    ran = run_bash("bench/gpu.sh --dry", out=tmp_path)
    assert ran.returncode == 0, (ran.stdout, (tmp_path / "log.txt").read_text())
    found = json.loads((tmp_path / "gpu.json").read_text())
    _everything_is_there(found)
    assert (tmp_path / "table.md").read_text() in ran.stdout
    assert table(found["targets"]) in ran.stdout
    assert "Self CPU" in (tmp_path / "profile.txt").read_text()


def _everything_is_there(found: dict[str, Any]) -> None:
    about = {"card", "driver", "torch", "triton", "date", "load average", "load average after", "machine"}
    assert about <= set(found["about"])
    assert {name: part["ended"] for name, part in found["parts"].items()} == dict.fromkeys(PARTS, "ok")
    measured = {name for name, value in found["figures"].items() if value is not None}
    assert {target.name for target in TARGETS} - measured == NOT_DRY
    assert found["figures"]["GPU tests, failed"] == found["figures"]["kernel tests, failed"] == 0
    assert found["figures"]["GPU tests, not ended"] == found["figures"]["kernel tests, not ended"] == 0
    assert found["figures"]["kernel tests, passed"] > 0
    assert found["figures"]["GPU tests, skipped"] > 0, "there is no GPU here, but there are tests"
    assert [row["what"] for row in found["targets"]] == [target.what for target in TARGETS]
    streams = found["parts"]["load"]["tables"]["Live streams"]
    assert streams[0]["streams"] == 2
    assert found["parts"]["single"]["tables"]["One listener"][1]["audio p50 s"] == pytest.approx(5, abs=0.2)


def test_all_limits_together_leave_time_for_many_listeners() -> None:
    script = (ROOT / "bench" / "gpu.sh").read_text()
    limits = {name: int(limit) for name, limit in re.findall(r"\[(\w+)\]=(\d+)", script)}
    whole = int(re.findall(r"^whole=(\d+)$", script, re.MULTILINE)[0])
    assert set(limits) == set(PARTS) - {"load"}
    together, others = list(limits.values())[:4], list(limits.values())[4:]
    assert whole < 480
    assert whole - max(together) - sum(others) > 150


def run_part(test: str, folder: Path, *, limit_s: float = 60, options: str = "") -> dict[str, Any]:
    """The JSON file of a part with this test, run by bench/gpu.sh."""
    path = folder / "test_part.py"
    path.write_text(f"import subprocess, pytest\n{test}\n")
    ran = run_bash(f". bench/gpu.sh; work={folder}; part name {limit_s} {options} {path}", out=folder / "out")
    assert ran.returncode == 0, ran.stdout
    found: dict[str, Any] = json.loads((folder / "parts" / "name.json").read_text())
    return found


@pytest.mark.process
def test_a_part_that_hangs_is_killed_with_its_children_and_its_figures_are_kept(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid())); time.sleep(90)"
    found = run_part(
        "def test_hangs(part, results):\n"
        "    results.add({'a': 1})\n"
        f"    subprocess.run([{sys.executable!r}, '-c', {child!r}])\n",
        tmp_path,
        limit_s=6,
    )
    assert found["ended"] == "killed at its limit"
    assert found["figures"] == {"a": 1}
    status = Path(f"/proc/{(tmp_path / 'child').read_text()}/status")
    # A killed process disappears a moment later.
    assert eventually(lambda: not status.exists() or "zombie" in status.read_text(), within_s=10.0)


@pytest.mark.process
def test_a_part_that_fails_is_reported_with_the_reason(tmp_path: Path) -> None:
    failing = "def test_fails(part, results):\n    assert 1 == 2, 'no sound'\n"
    found = run_part(failing, tmp_path)
    assert found["ended"].startswith("failed: ")
    assert "no sound" in found["ended"]
    report = (tmp_path / "out" / "table.md").read_text()
    assert "no sound" not in report, "it is no part of the real ones"
    assert "not begun" in report


@pytest.mark.process
def test_a_part_without_its_checkpoint_is_not_begun(tmp_path: Path) -> None:
    found = run_part("def test_never(prepared, results):\n    results.add({'a': 1})\n", tmp_path)
    assert found["ended"] == "failed: Failed: not begun: there is no checkpoint"
    assert found["figures"] == {}


@pytest.mark.process
def test_the_tests_of_a_suite_are_counted_by_outcome_over_all_workers(tmp_path: Path) -> None:
    suite = (
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "def test_skips(): pytest.skip('no card')\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_errors(broken): pass\n"
    )
    found = run_part(suite, tmp_path, options="-n 2 --suite suite")
    assert found["figures"] == {
        "suite, passed": 1,
        "suite, failed": 2,
        "suite, skipped": 1,
        "suite, not ended": 0,
    }
    assert found["ended"].startswith("failed: ")


def test_a_target_is_met_missed_or_not_measured() -> None:
    rows = target_rows({"live streams": 256.0, "start to ready, s": 20.5})
    met = {row["what"]: row["met"] for row in rows}
    assert met["live streams for a minute without an underrun"] == "yes"
    assert met["start to ready, s"] == "NO"
    assert met["audio seconds per second"] == "not measured"


@pytest.mark.parametrize("limit", [0, 5, 100, 255, 256, 300, 448, 999])
def test_the_search_ends_near_the_limit(limit: int) -> None:
    search, tries = StreamSearch(most=448, first=256, growth=1.25, tolerance=1 / 16), 0
    while (streams := search.next()) is not None:
        search.record(streams, clean=streams <= limit)
        tries += 1
    assert tries <= 20
    assert search.clean <= limit
    assert search.clean >= min(448, limit) * 0.9 - 1


class LimitedServer:
    """A listener pool of a server with so many live streams, in virtual time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now_s = 1000.0

    def closed_load(
        self, _url: str, _texts: object, sessions: int, duration_s: float, **options: Any
    ) -> list[ListenerResult]:
        assert options["plays"]
        assert options["spread_s"] < duration_s
        self.now_s += duration_s + 2.0
        return [ListenerResult("a", lateness_s=[0.0, 0.1 if sessions > self.limit else 0.0], audio_s=1.0)]

    def monotonic(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("limit", "seconds", "expected"),
    [
        (448, 250, (448, 448)),
        (300, 250, (270, 300)),
        (300, 95, (256, 256)),
        (300, 75, (256, 256)),
        (300, 60, None),
        (200, 250, (150, 200)),
        (0, 200, (0, 0)),
    ],
)
def test_the_number_of_live_streams_is_confirmed_in_the_time_that_there_is(
    tmp_path: Path, limit: int, seconds: float, expected: tuple[int, int] | None
) -> None:
    pool: Any = LimitedServer(limit)
    results = Results(tmp_path / "found.json")
    part = Part("load", tmp_path, dry=False, until_s=pool.now_s + seconds)
    server: Any = SimpleNamespace(url="")
    with mock.patch.object(test_server, "time", pool):
        test_server.measure_live_streams(server, pool, part, results, most=448)
    found = results.figures.get("live streams")
    if expected is None:
        assert found is None, "nothing was tried, so nothing is known"
    else:
        assert isinstance(found, float)
        assert expected[0] <= found <= expected[1]
    assert pool.now_s <= 1000.0 + seconds


def test_sound_is_counted_between_two_times() -> None:
    results = [
        ListenerResult("a", arrivals=[(10.0, 0.08), (11.0, 1.0), (13.0, 1.0)]),
        ListenerResult("b", arrivals=[(12.5, 2.0)]),
    ]
    assert audio_per_second(results, 1.0, 3.0) == 1.5
    assert audio_per_second([], 1.0, 3.0) == 0.0


def test_the_peer_is_timed_to_its_first_chunk_and_to_its_last(tmp_path: Path) -> None:
    results = Results(tmp_path / "found.json")
    chunks = peer.utterances(
        lambda chunk_frames: iter([([0.0] * 1920 * chunk_frames, 24_000, {})] * 2), runs=3
    )
    for found in chunks:
        test_server.add_peer_figures(found, results)
    rows = results.tables["faster-qwen3-tts, one utterance at a time"]
    assert [row["audio p50 s"] for row in rows] == pytest.approx([0.16, 0.64, 1.92])
    assert all(row["TTFA p95 ms"] is not None for row in rows)
    assert "peer, chunks of 12, RTF p50" in results.figures


def test_a_missing_peer_is_reported(tmp_path: Path) -> None:
    (found,) = peer.measurements(str(tmp_path), "cpu", tmp_path / "clip.wav")
    assert "faster_qwen3_tts" in str(found["peer, not measured"])


def test_every_runtime_dependency_is_carried_but_for_the_machines_own() -> None:
    carried = {Requirement(line).name for line in wheels.needed("3.12")}
    named = {canonicalize_name(Requirement(line).name) for line in wheels.required()}
    assert named | set(wheels.TESTS) <= carried
    assert {"starlette", "pydantic-core", "anyio", "typing-extensions"} <= carried
    assert not carried & (wheels.MACHINES | wheels.UNUSED)


def test_the_peers_packages_are_pinned() -> None:
    lines = [line for line in wheels.PEER.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert {"faster-qwen3-tts", "qwen-tts-hf", "librosa"} <= {line.split("==")[0] for line in lines}
