"""All that a GPU is needed for, dry: every part runs, on a CPU and a tiny checkpoint."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench import gpu, gpu_live, gpu_peer, gpu_wheels
from bench.gpu_findings import Findings, Given
from bench.gpu_live import Ladder
from bench.gpu_parts import Part, run_part
from bench.gpu_served import audio_a_second
from bench.gpu_targets import TARGETS, target_rows
from bench.hearing import Heard
from bench.processes import ROOT
from bench.report import table

# A CPU has no such batches, and no card.
NOT_DRY = {"frame of each, batch 32, ms", "frame of each, batch 128, ms", "frame of each, batch 256, ms"}
NOT_DRY |= {"memory, 8 streams, GB"}


@pytest.mark.process
def test_everything_runs_dry(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["bench/gpu.sh", "--dry"],
        cwd=ROOT,
        env={"OUT": str(tmp_path), "PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.returncode == 0, (ran.stdout, (tmp_path / "log.txt").read_text())
    found = json.loads((tmp_path / "gpu.json").read_text())
    _everything_is_there(found)
    assert (tmp_path / "table.md").read_text() in ran.stdout
    assert table(found["targets"]) in ran.stdout
    assert "Self CPU" in (tmp_path / "profile.txt").read_text()


def _everything_is_there(found: dict[str, Any]) -> None:
    about = {"card", "driver", "torch", "triton", "date", "load average", "load average after", "machine"}
    assert about <= set(found["about"])
    assert {name: part["ended"] for name, part in found["parts"].items()} == dict.fromkeys(
        [*gpu.LIMITS_S, gpu.LAST], "ok"
    )
    measured = {name for name, value in found["figures"].items() if value is not None}
    assert {target.name for target in TARGETS} - measured == NOT_DRY
    assert found["figures"]["GPU tests, failed"] == found["figures"]["kernel tests, failed"] == 0
    assert found["figures"]["kernel tests, passed"] > 0
    assert found["figures"]["GPU tests, skipped"] > 0, "there is no GPU here, but there are tests"
    assert [row["what"] for row in found["targets"]] == [target.what for target in TARGETS]
    streams = found["parts"]["many"]["tables"]["Live streams"]
    assert streams[0]["streams"] == 2
    assert found["parts"]["one"]["tables"]["One listener"][1]["audio p50 s"] == pytest.approx(5, abs=0.2)


def test_all_limits_together_leave_time_for_many_listeners() -> None:
    kernels, tests, checkpoint, precision, *others = gpu.LIMITS_S.values()
    assert gpu.WHOLE_S < 480
    assert gpu.WHOLE_S - max(kernels, tests, checkpoint, precision) - sum(others) > 150


def test_a_part_that_hangs_is_ended_with_all_that_it_started_and_has_not_measured_for_nothing(
    tmp_path: Path,
) -> None:
    write = f"open({str(tmp_path / 'hangs.json')!r}, 'w').write('{{\"figures\": {{\"a\": 1}}}}')"
    program = f"import subprocess; {write}; subprocess.run(['sleep', '60'])"
    outcome = run_part(Part("hangs", ["-c", program], limit_s=1.5), tmp_path)
    assert outcome.status == "took more than 2 s"
    assert outcome.found == {"figures": {"a": 1}}
    assert outcome.took_s < 10


def test_a_part_that_fails_says_so_and_one_without_what_it_needs_is_not_begun(tmp_path: Path) -> None:
    failed = run_part(Part("fails", ["-c", "raise SystemExit(3)"], 10.0), tmp_path)
    idle = run_part(Part("idle", ["-c", ""], 10.0, needs=tmp_path / "weights"), tmp_path)
    assert [failed.status, idle.status] == ["ended with 3", "not begun: there is no weights"]
    assert not failed.is_good


def test_a_target_is_met_missed_or_not_measured() -> None:
    rows = target_rows({"live streams": 256.0, "start to ready, s": 20.5})
    met = {row["what"]: row["met"] for row in rows}
    assert met["live streams for a minute without an underrun"] == "yes"
    assert met["start to ready, s"] == "NO"
    assert met["audio seconds per second"] == "not measured"


@pytest.mark.parametrize("limit", [0, 5, 100, 255, 256, 300, 448, 999])
def test_the_ladder_ends_near_the_limit(limit: int) -> None:
    ladder, tries = Ladder(most=448, first=256), 0
    while (streams := ladder.next()) is not None:
        ladder.keep(streams, clean=streams <= limit)
        tries += 1
    assert tries <= 20
    assert ladder.clean <= limit
    assert ladder.clean >= min(448, limit) * 0.9 - 1


class Bearing:
    """An audience of a server that bears so many, in virtual time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now_s = 1000.0

    def stay(self, _url: str, _texts: object, sessions: int, duration_s: float, **how: Any) -> list[Heard]:
        assert how["plays"]
        assert how["spread_s"] < duration_s
        self.now_s += duration_s + 2.0
        return [Heard("a", lateness_s=[0.0, 0.1 if sessions > self.limit else 0.0], audio_s=1.0)]

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
def test_the_stream_limit_is_confirmed_in_the_time_that_there_is(
    tmp_path: Path, limit: int, seconds: float, expected: tuple[int, int] | None
) -> None:
    listeners: Any = Bearing(limit)
    findings = Findings(tmp_path / "found.json")
    given = Given(tmp_path, tmp_path / "found.json", tmp_path, dry=False, seconds=seconds)
    server: Any = SimpleNamespace(url="")
    with mock.patch.object(gpu_live, "time", listeners):
        gpu_live.measure_live(server, listeners, given, findings, most=448, until_s=listeners.now_s + seconds)
    found = findings.figures.get("live streams")
    if expected is None:
        assert found is None, "nothing was tried, so nothing is known"
    else:
        assert isinstance(found, float)
        assert expected[0] <= found <= expected[1]
    assert listeners.now_s <= 1000.0 + seconds


def test_sound_is_counted_between_two_moments() -> None:
    heard = [
        Heard("a", arrivals=[(10.0, 0.08), (11.0, 1.0), (13.0, 1.0)]),
        Heard("b", arrivals=[(12.5, 2.0)]),
    ]
    assert audio_a_second(heard, 1.0, 3.0) == 1.5
    assert audio_a_second([], 1.0, 3.0) == 0.0


def test_the_peer_is_timed_to_its_first_chunk_and_to_its_last(tmp_path: Path) -> None:
    findings = Findings(tmp_path / "found.json")
    gpu_peer.measure_speech(
        lambda chunk_frames: iter([([0.0] * 1920 * chunk_frames, 24_000, {})] * 2), findings, 3
    )
    rows = findings.tables["faster-qwen3-tts, one utterance at a time"]
    assert [row["audio p50 s"] for row in rows] == pytest.approx([0.16, 0.64, 1.92])
    assert all(row["TTFA p95 ms"] is not None for row in rows)


def test_what_the_peer_lacks_is_what_is_reported(tmp_path: Path) -> None:
    given = Given(tmp_path, tmp_path / "found.json", tmp_path, dry=True, seconds=1.0)
    findings = Findings(given.found)
    gpu_peer.measure(given, findings)
    assert "faster_qwen3_tts" in str(findings.figures["peer, not measured"])


def test_every_runtime_dependency_is_carried_but_for_the_machines_own() -> None:
    carried = {Requirement(line).name for line in gpu_wheels.needed("3.12")}
    named = {canonicalize_name(Requirement(line).name) for line in gpu_wheels.required()}
    assert named | set(gpu_wheels.TESTS) <= carried
    assert {"starlette", "pydantic-core", "anyio", "typing-extensions"} <= carried
    assert not carried & gpu_wheels.MACHINES


def test_the_peers_packages_are_pinned() -> None:
    lines = [line for line in gpu_wheels.PEER.read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert {"faster-qwen3-tts", "qwen-tts-hf", "librosa"} <= {line.split("==")[0] for line in lines}
