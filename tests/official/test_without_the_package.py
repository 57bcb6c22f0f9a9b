"""The qwen-tts engine before its package is imported, and without the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from makima_tts.engines.official import OfficialEngine, OfficialModel
from makima_tts.errors import TtsUnavailable


async def test_it_says_how_to_get_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "qwen_tts"):
        monkeypatch.setitem(sys.modules, name, None)
    engine = OfficialEngine(OfficialModel("nobody/has-this", offline=True))
    with pytest.raises(TtsUnavailable, match="make venv-qwen-tts"):
        await engine.start(lambda *_: None)
    assert not engine.health().alive
    await engine.close()


def test_importing_the_engine_imports_neither_torch_nor_transformers() -> None:
    seen = "import sys, makima_tts.engines.official; print({'torch', 'transformers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_clients_get_the_name_of_a_model_folder_and_not_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    facts = OfficialEngine(OfficialModel(str(folder))).facts
    assert facts.model == "my-model"
    assert str(tmp_path) not in facts.fingerprint


def test_other_weights_in_the_same_folder_have_another_fingerprint(tmp_path: Path) -> None:
    """Voice prompts that were encoded with the old weights must not be used."""
    (tmp_path / "config.json").write_text("{}")
    before = OfficialEngine(OfficialModel(str(tmp_path))).facts.fingerprint
    assert OfficialEngine(OfficialModel(str(tmp_path))).facts.fingerprint == before
    os.utime(tmp_path / "config.json", (1, 1))
    assert OfficialEngine(OfficialModel(str(tmp_path))).facts.fingerprint != before
