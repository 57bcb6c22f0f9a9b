""".env.example lists every setting with its default."""

import runpy
from pathlib import Path

import pytest
from dotenv import dotenv_values

from makima_tts.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"


def test_the_example_is_current() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "env_example.py"))["example"]()
    assert EXAMPLE.read_text() == written, "run `make env-example`"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_uncommented_example_equals_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [line[1:] for line in EXAMPLE.read_text().splitlines() if line.startswith(f"#{PREFIX}")]
    assert len(settings) == len(Settings.model_fields)
    (tmp_path / ".env").write_text("\n".join(settings))
    for name in dotenv_values(tmp_path / ".env"):
        monkeypatch.delenv(name, raising=False)
    assert Settings(_env_file=tmp_path / ".env") == Settings(_env_file=None)
