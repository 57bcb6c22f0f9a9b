"""The terminal conversation with WAV files: a question, an answer, and an interruption of the answer."""

import asyncio
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from examples.conversation.__main__ import Conversation
from examples.conversation.answers import Message
from examples.conversation.ears import Ears, TurnEnded
from examples.conversation.room import RoomOfFiles
from makima_tts.client import BlockingSpeechClient, Player, SpeechClient
from makima_tts.client.saving import wav_file
from makima_tts.protocol import AudioFormat, Start
from tests.client.hand_turned_card import HandTurnedCard
from tests.conftest import service_process
from tests.transcribe import word_error_rate

ROOT = Path(__file__).parents[2]
MICROPHONE = AudioFormat(16_000)
QUESTION = "What is the capital of France?"
INTERRUPTION = "Stop it, please."
# Time for the answer to start, and to be played.
PAUSE_S = 2.5
# From the start of a voice to its detection, plus the chunk that was being played.
NOTICED_S = 0.6
AUDIBLE = 0.003


@dataclass(frozen=True)
class SpokenTurn:
    """The microphone input: the question, and the time range of the interruption."""

    path: Path
    asked_s: float
    interrupts_s: float
    interrupted_s: float


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service_process(tmp_path_factory.mktemp("service"), engine="preview") as server:
        server.until_listening()
        yield f"ws://{server.host}:{server.port}/api/v1/speak"


def spoken(url: str, path: Path) -> SpokenTurn:
    with BlockingSpeechClient(url, Start(sample_rate=16_000)) as client:
        question, interruption = (client.speak(text).read() for text in (QUESTION, INTERRUPTION))
    silence = bytes(round(PAUSE_S * 16_000) * 2)
    with wav_file(path, MICROPHONE) as write:
        for part in (question, silence, interruption, silence):
            write(part)
    asked_s = len(question) / 32_000
    interrupts_s = asked_s + PAUSE_S
    return SpokenTurn(path, asked_s, interrupts_s, interrupts_s + len(interruption) / 32_000)


def loudness(path: Path) -> tuple[npt.NDArray[np.float32], int]:
    """The loudest sample in each hundredth of a second, and the number of these per second."""
    with wave.open(str(path)) as file:
        rate_hz = file.getframerate()
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    window = rate_hz // 100
    return np.abs(pcm[: pcm.size // window * window]).reshape(-1, window).max(axis=1), 100


@pytest.mark.process
def test_a_question_is_answered_and_an_interruption_stops_the_answer(url: str, tmp_path: Path) -> None:
    said, answer = spoken(url, tmp_path / "said.wav"), tmp_path / "answer.wav"
    options = ["--url", url, "--from-wav", str(said.path), "--to-wav", str(answer)]
    command = [sys.executable, "-m", "examples.conversation", *options]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""

    heard, per_s = loudness(answer)
    until_asked, from_noticed = int(said.asked_s * per_s), int((said.interrupts_s + NOTICED_S) * per_s)
    assert heard[:until_asked].max() == 0
    assert heard[until_asked : int(said.interrupts_s * per_s)].max() > AUDIBLE
    assert heard[from_noticed : int(said.interrupted_s * per_s)].max() == 0
    assert heard[int(said.interrupted_s * per_s) :].max() > AUDIBLE

    lines = [line.partition(": ")[::2] for line in ran.stdout.splitlines()[1:]]
    assert [who for who, _ in lines] == ["user", "assistant"] * 2
    words = [what for _, what in lines]
    assert word_error_rate(QUESTION, words[0]) < 0.3
    assert words[1].endswith("[interrupted]")
    assert len(words[1].split()) > 2
    assert "interrupt me" not in words[1]
    assert "stop" in words[2].lower()


class OneTurn(Ears):
    """Returns one turn, and no more once ``asked``."""

    def __init__(self, asked: asyncio.Event) -> None:
        self._asked = asked

    async def listen(self, microphone: AsyncIterator[bytes]) -> AsyncIterator[TurnEnded]:
        yield TurnEnded("Hello.")
        await self._asked.wait()


async def silence() -> AsyncIterator[bytes]:
    yield bytes(2)


async def test_a_failing_model_prints_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = asyncio.Event()

    async def failing(history: list[Message]) -> AsyncIterator[str]:
        asked.set()
        raise OSError("The model is away.")
        yield ""

    async with SpeechClient.connect(url) as client:
        with Player(client.audio_format, HandTurnedCard().open) as player:
            await Conversation(client, player, failing).hold(OneTurn(asked), silence())
    assert "The model is away.\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"no sound at all"])
def test_a_file_that_is_no_wav_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    microphone = tmp_path / "said.wav"
    if content is not None:
        microphone.write_bytes(content)
    with pytest.raises(SystemExit, match="takes a WAV"):
        RoomOfFiles(microphone, tmp_path / "answer.wav")
