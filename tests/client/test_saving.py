"""A WAV file is its header and the chunks."""

from pathlib import Path
from typing import Literal

import pytest
import soundfile

from makima_tts.client import ServiceError, SpeechClient
from makima_tts.client.saving import wav_file
from makima_tts.protocol import AudioFormat
from tests.client.fake_service import FakeService, complete, failed, speaking


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("encoding", ["pcm16", "pcm32f"])
def test_the_file_holds_the_chunks(tmp_path: Path, encoding: Literal["pcm16", "pcm32f"]) -> None:
    chunks = [b"\x01\x00\x00\x3f" * size for size in (1, 0, 1000, 7)]
    with wav_file(tmp_path / "a.wav", AudioFormat(22050, encoding)) as write:
        for chunk in chunks:
            write(chunk)
    dtype = "int16" if encoding == "pcm16" else "float32"
    samples, rate_hz = soundfile.read(tmp_path / "a.wav", dtype=dtype)
    assert rate_hz == 22050
    assert samples.tobytes() == b"".join(chunks)
    assert (
        (tmp_path / "a.wav").read_bytes().endswith(b"data" + (4032).to_bytes(4, "little") + b"".join(chunks))
    )


@pytest.mark.parametrize(("encoding", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_a_telephones_file_says_what_it_is(
    tmp_path: Path, encoding: Literal["mulaw", "alaw"], subtype: str
) -> None:
    with wav_file(tmp_path / "a.wav", AudioFormat(8000, encoding)) as write:
        write(bytes(100))
    file = soundfile.info(tmp_path / "a.wav")
    assert (file.samplerate, file.frames, file.subtype) == (8000, 100, subtype)


async def test_an_utterance_is_saved_as_it_arrives(tmp_path: Path) -> None:
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(speaking("u1"), b"11", b"22", complete("u1"))
        assert await speech.save(tmp_path / "hello.wav") == tmp_path / "hello.wav"
        assert soundfile.info(tmp_path / "hello.wav").frames == 2
        assert names_in(tmp_path) == ["hello.wav"]


async def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.wav"
    path.write_text("the last one")
    async with FakeService() as service, SpeechClient.connect(service.url) as client:
        speech = client.speak("Hello.")
        await service.say(speaking("u1"), b"11", failed("SYNTHESIS_ERROR", "u1"))
        with pytest.raises(ServiceError):
            await speech.save(path)
    assert path.read_text() == "the last one"
    assert names_in(tmp_path) == ["kept.wav"]
