"""The measurements of the model and of a server with it, in small."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import compare, precision
from bench.compare import Found, rows_of, sections, step_rows
from bench.precision import signal_to_noise_db
from bench.report import table
from tests.checkpoints.models import ENDING, checkpoint_folder

BATCHES = (1, 5)


@pytest.mark.process
def test_everything_is_measured_and_without_the_reference_its_columns_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "REFERENCE_PYTHON", tmp_path / "nowhere")
    written = tmp_path / "found.json"
    asked = f"--checkpoint {checkpoint_folder(ENDING)} --json {written} --plots {tmp_path} --precisions fp32"
    few = "--threads 1 --runs 1 --frames 2 --batches 1 5 --most 2 --listen 0.2 --profile"
    compare.main([*asked.split(), *few.split()])
    found = json.loads(written.read_text())
    assert found["sides"] == ["ours fp32"]
    assert all(math.isfinite(row["ours fp32"]) for row in found["rows"])
    rows = {(row["what"], row["size"]): row["ours fp32"] for row in found["rows"]}
    _everything_is_there(rows)
    assert [row["streams"] for row in found["levels"]["fp32"]] == [1, 2]
    printed = capsys.readouterr().out
    assert all(table(part) in printed for part in sections(found["rows"]).values())
    assert {"load average", "load average after", "machine", "date", "threads"} <= set(found)
    for picture in ("load.png", "steps.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def _everything_is_there(rows: dict[tuple[str, int | None], float]) -> None:
    """What the tables of docs/benchmarks.md are made of."""
    assert all(rows["prefill, ms", size] > 0 for size in (10, 25, 50, 100, 200, 400))
    parts = ("whole step", "talker", "code predictor", "codec")
    assert all(rows[f"{part}, ms", batch] > 0 for part in parts for batch in BATCHES)
    for name in (
        "RTF, one stream",
        "TTFA, one stream, ms",
        "voice in memory, ready, ms",
        "voice on disk, ready, ms",
        "cancel to a free place, ms",
        "start to ready, s",
        "memory when ready, MiB",
        "memory of a stream, at most, MiB",
    ):
        assert rows[name, None] > 0
    assert rows["cancel to a free place, steps", None] <= 1
    assert {"cancel to another's turn, ms", "disconnect to another's turn, ms"} <= {name for name, _ in rows}
    assert rows["underruns, a voice is encoded", None] >= 0
    of_a_frame = [value for (name, _), value in rows.items() if name.startswith("a frame's")]
    assert len(of_a_frame) == 5


def test_both_sides_are_set_side_by_side() -> None:
    columns: dict[str, Found] = {
        "ours int8": {("whole step, ms", 2): [40.0, 80.0, 50.0], ("voice encoding, ms", None): [3.0]},
        "reference bf16": {("whole step, ms", 2): [100.0], ("what ours has not", None): [1.0]},
    }
    rows = rows_of(columns)
    step: dict[str, Any] = {"what": "whole step, ms", "size": 2, "ours int8": 50.0, "reference bf16": 100.0}
    assert rows[0] == step | {"reference ÷ ours int8": 2.0}
    assert (len(rows), step_rows(rows)) == (2, [rows[0]])
    assert sections(rows)["Voices and prompts"] == [{"what": "voice encoding, ms", "ours int8": 3.0}]


def test_precisions_are_compared_over_the_same_codes() -> None:
    rows = precision.compare(checkpoint_folder(ENDING), "cpu", 4, ["fp32", "bf16"])
    assert [(row["precision"], row["choices"]) for row in rows] == [
        ("fp32", 4),
        ("fp32", 8),
        ("bf16", 4),
        ("bf16", 8),
    ]
    for row in rows[:2]:
        assert (row["relative RMS error"], row["same first choice"], row["codec SNR, dB"]) == (0.0, 1.0, None)
    for row in rows[2:]:
        assert 0 < row["relative RMS error"] < 0.1
        assert 0.5 < row["same first choice"] <= 1
        assert row["codec SNR, dB"] > 20


def test_a_teacher_dictates() -> None:
    teacher = precision.Teacher(3, torch.tensor([2, 0]))
    logits = torch.tensor([[0.1, 0.9, 0.2, 5.0]]).expand(4, -1)
    assert [teacher.sample_first(logits).tolist() for _ in range(2)] == [[2] * 4, [0] * 4]
    assert precision.Teacher(3).sample_first(logits).tolist() == [1] * 4  # the fourth is no code


def test_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    sound = torch.linspace(-1, 1, 100)
    assert signal_to_noise_db(sound, sound * 1.1) == pytest.approx(20, abs=0.01)
