"""The qwen-tts engine with its package, in the environment of the package."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
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


@pytest.fixture(scope="module", autouse=True)
def services(
    python: Path,
    checkpoint: Path,
    environment_with: EnvironmentWith,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, ServerProcess]]:
    """``makima-tts serve`` with the tiny checkpoint, and with a missing one.

    Importing the package takes as long as a test: both import it while the conformance suite runs.
    """
    folder = tmp_path_factory.mktemp("services")
    with ExitStack() as running:

        def start(name: str, model: Path) -> ServerProcess:
            env = environment_with(
                TTS_ENGINE="qwen-tts",
                TTS_MODEL_ID=model,
                TTS_DEVICE="cpu",
                TTS_VOICES_DIR=folder / name / "voices",
                TTS_CACHE_DIR=folder / name / "cache",
            )
            command = [str(python), "-m", "makima_tts", "serve", "--port", "0"]
            return running.enter_context(ServerProcess(command, env=env))

        yield {"tiny": start("tiny", checkpoint), "nowhere": start("nowhere", folder / "nowhere")}


def url_of(service: ServerProcess) -> str:
    return f"ws://{service.host}:{service.port}/api/v1/speak"


@pytest.mark.timeout(300)
def test_it_passes_the_conformance_suite_and_its_own_tests(
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


async def test_a_cloned_voice_is_heard_over_the_socket(services: dict[str, ServerProcess]) -> None:
    service = services["tiny"].until_listening()
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


async def test_a_missing_checkpoint_is_reported_and_the_service_keeps_running(
    services: dict[str, ServerProcess],
) -> None:
    service = services["nowhere"].until_listening()
    with pytest.raises(ServiceError, match="TTS_MODEL_ID names no whole Qwen3-TTS checkpoint") as failure:
        async with SpeechClient.connect(url_of(service)):
            pass
    assert failure.value.code == "TTS_UNAVAILABLE"
    assert "nowhere" not in failure.value.message
    assert "Traceback" not in service.complaints
