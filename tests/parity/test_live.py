"""``say --model --greedy --raw`` equals the reference package, which runs live."""

import asyncio
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from makima_tts.cli.say import SayRequest
from makima_tts.cli.say_locally import speak
from makima_tts.engines.qwen3 import SynthesisOptions
from makima_tts.voices.library import read_folder
from tests.checkpoints.models import checkpoint_folder
from tests.official.conftest import EnvironmentWith
from tests.transport.processes import ROOT

GOLDEN = Path(__file__).parent / "golden"
NARRATOR = ROOT / "makima_tts" / "voices" / "shipped" / "narrator"
TEXT = "Hello there, my iPhone 12 costs $999! Grüße."
FRAMES = 10
PARTS = ("codec", "encoders", "rules")
MODES = [(clone_mode, text_mode) for clone_mode in ("icl", "xvector") for text_mode in ("streaming", "full")]

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made_there(
    python: Path, environment_with: EnvironmentWith, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder with all results of the reference's environment."""
    into = tmp_path_factory.mktemp("reference")
    speech = {
        "model": str(checkpoint_folder("wide")),
        "clip": str(NARRATOR / "reference.wav"),
        "transcript": read_folder(NARRATOR, shipped=True).transcript,
        "text": TEXT,
        "language": "German",
        "frames": FRAMES,
        "into": str(into / "speech.safetensors"),
    }
    asked = {"speech": speech, "parts": PARTS, "shapes": ["odd"], "into": str(into)}
    ran = subprocess.run(
        [python, "-m", "tests.parity.reference_today", json.dumps(asked)],
        cwd=ROOT,
        env=environment_with(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return into


@pytest.fixture(scope="module")
def reference(made_there: Path) -> dict[str, torch.Tensor]:
    return load_file(made_there / "speech.safetensors")


@pytest.mark.parametrize(("clone_mode", "text_mode"), MODES)
def test_codes_and_audio_equal_the_references(
    clone_mode: str,
    text_mode: str,
    reference: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the clip and the text: equal codes, and audio equal to 90 dB."""
    monkeypatch.chdir(tmp_path)
    request = SayRequest(
        TEXT,
        tmp_path / "speech.wav",
        "narrator",
        "German",
        None,
        clone_mode="icl" if clone_mode == "icl" else "xvector",
        codes=tmp_path / "codes.npy",
    )
    options = SynthesisOptions(True, True, text_mode == "streaming", FRAMES)
    asyncio.run(speak(request, "qwen3", str(checkpoint_folder("wide")), options))
    codes = np.load(tmp_path / "codes.npy")
    assert codes.dtype == np.int64
    assert np.array_equal(codes, reference[f"{clone_mode}.{text_mode}.codes"].numpy())
    sound, _rate_hz = soundfile.read(request.path, dtype="float64")
    expected = reference[f"{clone_mode}.{text_mode}.sound"].double().numpy()
    assert sound.shape == expected.shape
    assert 10 * np.log10((expected**2).sum() / ((sound - expected) ** 2).sum()) > 90


def test_the_golden_files_equal_the_references_results_today(made_there: Path) -> None:
    for part in PARTS:
        kept, made = (load_file(folder / f"{part}_odd.safetensors") for folder in (GOLDEN, made_there))
        assert kept.keys() == made.keys()
        for name, tensor in kept.items():
            if tensor.is_floating_point():
                assert torch.allclose(made[name], tensor, rtol=0, atol=1e-4), name
            else:
                assert torch.equal(made[name], tensor), name
