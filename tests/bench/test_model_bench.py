"""The measurements of the model, in small."""

import json
import math
from pathlib import Path

import pytest
import torch

from bench import model, precision
from bench.precision import compare, signal_to_noise_db
from bench.report import table
from tests.small_models import ENDING, checkpoint_folder

ONCE = {
    model.START,
    "voice encoding, ms",
    "voice encoding, codes and x-vector, ms",
    "voice encoding, longest slice, ms",
    "prefill, a voice's first, ms",
    "prefill, the voice has spoken, ms",
    "text to first chunk, ms",
    "peak memory, MiB",
}
EACH_BATCH = {
    "whole step, ms",
    "talker, ms",
    "code predictor, ms",
    "codec, ms",
    "codec, 12 frames at once, ms",
}


def test_everything_is_measured_and_without_the_reference_its_columns_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "REFERENCE_PYTHON", tmp_path / "nowhere")
    written = tmp_path / "found.json"
    asked = ["--checkpoint", str(checkpoint_folder(ENDING)), "--json", str(written)]
    model.main([*asked, "--runs", "1", "--frames", "2", "--batches", "1", "5", "--threads", "1"])
    found = json.loads(written.read_text())
    rows = {(row["what"], row["batch"]): row for row in found["rows"]}
    assert set(rows) == {(name, None) for name in ONCE} | {(name, n) for name in EACH_BATCH for n in (1, 5)}
    for row in rows.values():
        assert math.isfinite(row["ours"])
        assert row["ours"] > 0
        assert row["reference"] is row["reference / ours"] is row["RTF reference"] is None
    assert rows["whole step, ms", 1]["RTF ours"] > 0
    assert table(found["rows"]) in capsys.readouterr().out
    assert {"load average", "load average after", "machine", "date"} <= set(found)


def test_both_sides_are_set_side_by_side() -> None:
    sides: list[model.Found] = [{("whole step", 2): [40.0, 80.0, 50.0]}, {("whole step", 2): [100.0]}]
    (row,) = model.rows(sides)
    assert (row["ours"], row["reference"], row["reference / ours"]) == (50.0, 100.0, 2.0)
    assert (row["RTF ours"], row["RTF reference"]) == (50.0 / 80, 100.0 / 80)


def test_precisions_are_compared_over_the_same_codes() -> None:
    rows, ratio_db = compare(checkpoint_folder(ENDING), torch.device("cpu"), frames=4)
    assert [row["choices"] for row in rows] == [4, 8]
    for row in rows:
        assert 0 < row["relative RMS error"] < 0.1
        assert 0.5 < row["same first choice"] <= 1
    assert ratio_db > 20


def test_a_teacher_dictates() -> None:
    teacher = precision.Teacher(3, torch.tensor([2, 0]))
    logits = torch.tensor([[0.1, 0.9, 0.2, 5.0]]).expand(4, -1)
    assert [teacher.choose(logits).tolist() for _ in range(2)] == [[2] * 4, [0] * 4]
    assert precision.Teacher(3).choose(logits).tolist() == [1] * 4  # the fourth is no code


def test_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    sound = torch.linspace(-1, 1, 100)
    assert signal_to_noise_db(sound, sound * 1.1) == pytest.approx(20, abs=0.01)
