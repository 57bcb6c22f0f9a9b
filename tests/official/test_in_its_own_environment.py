"""The qwen-tts backend with its package, in the environment that has it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from makima_tts.client import ServiceError, SpeechClient
from makima_tts.protocol import Start
from tests.client.fake_service import heard_of
from tests.official.conftest import EnvironmentWith
from tests.transport.processes import ROOT, ServerProcess

pytestmark = pytest.mark.process

SUITES = ("tests/official/conformance.py", "tests/official/own_laws.py")
TEXT = "Good evening to all of you. The lamps are lit."


@pytest.fixture
def service(
    python: Path,
    checkpoint: Path,
    environment_with: EnvironmentWith,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[ServerProcess]:
    """``makima-tts serve`` with the tiny checkpoint, or with the folder that a test names instead."""
    env = environment_with(
        TTS_ENGINE="qwen-tts",
        TTS_MODEL_ID=tmp_path / request.param if hasattr(request, "param") else checkpoint,
        TTS_DEVICE="cpu",
        TTS_VOICES_DIR=tmp_path / "voices",
        TTS_CACHE_DIR=tmp_path / "cache",
    )
    with ServerProcess([str(python), "-m", "makima_tts", "serve", "--port", "0"], env=env) as process:
        yield process.until_listening()


def url_of(service: ServerProcess) -> str:
    return f"ws://{service.host}:{service.port}/api/v1/speak"


@pytest.mark.timeout(300)
def test_it_keeps_the_laws_of_all_engines_and_its_own(
    python: Path, checkpoint: Path, environment_with: EnvironmentWith
) -> None:
    ran = subprocess.run(
        [python, "-m", "pytest", *SUITES],
        cwd=ROOT,
        env=environment_with(MAKIMA_TTS_TEST_CHECKPOINT=checkpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


async def test_a_cloned_voice_is_heard_over_the_socket(service: ServerProcess) -> None:
    async with SpeechClient.connect(url_of(service), Start(voice="narrator")) as client:
        assert (client.ready.engine, client.ready.model) == ("qwen-tts", "tiny")
        assert client.started.voice == "narrator"
        assert client.started.warning is None
        first, again, other = [client.speak(TEXT, seed=seed) for seed in (1, 1, 2)]
        heard = [b"".join(await heard_of(speech)) for speech in (first, again, other)]
        assert first.complete is not None
        assert first.complete.audio_length_ms * 48 == len(heard[0]) > 0
        assert [sentence.text for sentence in first.sentences] == [
            "Good evening to all of you.",
            "The lamps are lit.",
        ]
        assert heard[0] == heard[1] != heard[2]


@pytest.mark.parametrize("service", ["nowhere"], indirect=True)
async def test_a_checkpoint_that_is_not_there_is_said_and_the_service_lives(service: ServerProcess) -> None:
    with pytest.raises(ServiceError, match="TTS_MODEL_ID names no whole Qwen3-TTS checkpoint") as failure:
        async with SpeechClient.connect(url_of(service)):
            pass
    assert failure.value.code == "TTS_UNAVAILABLE"
    assert "nowhere" not in failure.value.message
    assert "Traceback" not in service.complaints
