"""Checkpoints on their way to a server, and such as it cannot speak with."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from makima_tts.client import ServiceError, SpeechClient
from makima_tts.engines.qwen3 import ModelChoice, Qwen3Engine
from makima_tts.protocol import Loading
from tests.api.service import running
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.conftest import Serve
from tests.model.stand_in_hub import MODEL, Hub, there
from tests.qwen3.serving import get, qwen3_settings, session, socket_url, sound_of
from tests.transport.processes import ServerProcess

WEIGHTS, CODEC = "model.safetensors", "speech_tokenizer/model.safetensors"
TENSOR = "talker.model.layers.0.self_attn.q_proj.weight"
TEXT = "The lamps are lit."


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(checkpoint_folder(ENDING), tmp_path / "mine"))


@pytest.mark.process
async def test_a_named_model_is_fetched_and_clients_hear_how_far_it_is(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hub(there(checkpoint_folder(ENDING))) as hub:
        hub.held[WEIGHTS] = 1000
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "models")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        server = serve(**qwen3_settings(model_id=MODEL, offline=False))
        told: list[Loading] = []
        speaking = asyncio.create_task(_first_words(server, told.append))
        while "downloading" not in (answer := await get(server, "/ready")).text:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "MODEL_LOADING")
            await asyncio.sleep(0.1)  # asked without a pause, the server would be slow to load
        assert (await get(server, "/health")).status_code == 200
        hub.released.set()
        assert await speaking == ("qwen3", MODEL, "narrator", True)
        shares = [report.progress for report in told]
        assert shares == sorted(shares)
        assert told
        assert (await get(server, "/ready")).json()["model"] == MODEL


async def _first_words(
    server: ServerProcess, on_loading: Callable[[Loading], None]
) -> tuple[str, str, str, bool]:
    async with SpeechClient.connect(socket_url(server), on_loading=on_loading) as client:
        assert (await sound_of(client.speak(TEXT))).size
        ready = client.ready
        return ready.engine, ready.model, ready.voice, ready.voice_loaded


@pytest.mark.process
async def test_a_damaged_checkpoint_is_named_and_the_server_lives(
    serve: Serve, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (checkpoint / WEIGHTS).open("r+b") as file:
        file.truncate((checkpoint / WEIGHTS).stat().st_size - 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    server = serve(**qwen3_settings(model_id=checkpoint))
    with pytest.raises(ServiceError) as failure:
        async with session(server):
            pass
    assert failure.value.code == "TTS_UNAVAILABLE"
    answer = await get(server, "/ready")
    reason = answer.json()["error"]["message"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "TTS_UNAVAILABLE")
    assert f"{WEIGHTS} is incomplete: it ends before" in reason
    assert str(checkpoint) not in reason
    assert (await get(server, "/health")).status_code == 200
    assert reason in server.complaints
    assert "Traceback" not in server.complaints


def _reshape(folder: Path) -> None:
    _rewrite(folder, lambda tensors: tensors.update({TENSOR: tensors[TENSOR][:-1].contiguous()}))


def _take_out(folder: Path) -> None:
    _rewrite(folder, lambda tensors: tensors.pop(TENSOR))


def _rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def _be_another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


def _be_a_web_page(folder: Path) -> None:
    (folder / CODEC).write_text("<html>Not found</html>")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_reshape, (WEIGHTS, TENSOR)),
        (_take_out, (WEIGHTS, TENSOR)),
        (_be_another_kind, ("config.json", "model_type")),
        (_be_a_web_page, (CODEC,)),
        (lambda folder: (folder / "vocab.json").unlink(), ("vocab.json",)),
        (lambda folder: (folder / "config.json").unlink(), ("TTS_MODEL_ID", "TTS_OFFLINE")),
    ],
    ids=[
        "wrong shape",
        "lacks a tensor",
        "another model",
        "no safetensors",
        "no vocabulary",
        "nothing there",
    ],
)
async def test_operators_and_clients_are_told_what_is_wrong(
    damage: Callable[[Path], None], words: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    damage(checkpoint)
    engine = Qwen3Engine(ModelChoice(str(checkpoint), offline=True))
    async with running(tmp_path, engine) as service:
        async with service.client() as client:
            error, _ = await client.until("error")
            assert (error["code"], await client.close_code()) == ("TTS_UNAVAILABLE", 1011)
        async with service.http() as http:
            answer = await http.get("/ready")
            assert (await http.get("/health")).status_code == 200
    assert answer.status_code == 503
    reason = answer.json()["error"]["message"]
    assert reason == error["message"]
    assert all(word in reason for word in words), reason
    assert str(checkpoint) not in reason
