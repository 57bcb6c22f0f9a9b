"""Voices that come and go under a running server, and what of them outlives it."""

import signal
from pathlib import Path

import pytest

from makima_tts.protocol import Start
from tests.conftest import Serve
from tests.qwen3.serving import (
    counted,
    delete_voice,
    qwen3_settings,
    same_sound,
    session,
    sound_of,
    upload,
)
from tests.transport.processes import ServerProcess
from tests.voices.clips import TRANSCRIPT, good_clip

pytestmark = pytest.mark.process

TEXT = "The lamps are lit."


@pytest.fixture
def server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return serve(**qwen3_settings())


async def test_makima_is_available_as_soon_as_there_is_a_clip(server: ServerProcess, tmp_path: Path) -> None:
    async with session(server) as before:
        assert before.started.voice == "narrator"
        narrated = await sound_of(before.speak(TEXT, seed=1))

        assert (await upload(server, "Makima"))["voice"]["id"] == "makima"
        async with session(server) as client:
            assert (client.ready.voice, client.started.voice) == ("narrator", "makima")
            uploaded = await sound_of(client.speak(TEXT, seed=1))
        assert not same_sound(uploaded, narrated)
        # Who began with the narrator goes on with the narrator, unless asked otherwise.
        assert same_sound(await sound_of(before.speak(TEXT, seed=1)), narrated)
        assert same_sound(await sound_of(before.speak(TEXT, seed=1, voice="makima")), uploaded)

    assert await delete_voice(server, "makima") == 204
    async with session(server) as client:
        assert client.started.voice == "narrator"

    folder = tmp_path / "voices" / "makima"
    folder.mkdir()
    (folder / "reference.wav").write_bytes(good_clip(pitch_hz=210.0))
    async with session(server, Start(voice="makima")) as client:
        assert client.started.voice == "narrator"
        assert "put what is said in the clip into transcript.txt" in (client.started.warning or "")
    (folder / "transcript.txt").write_text(TRANSCRIPT)
    async with session(server, Start(voice="makima")) as client:
        assert (client.started.voice, client.started.warning) == ("makima", None)
        put_there = await sound_of(client.speak(TEXT, seed=1))
    assert not same_sound(put_there, uploaded)
    assert not same_sound(put_there, narrated)


async def test_encoded_voices_survive_a_restart(serve: Serve, server: ServerProcess, tmp_path: Path) -> None:
    await upload(server, "Anna")
    async with session(server, Start(voice="anna")) as client:
        first = await sound_of(client.speak(TEXT, seed=1))
    assert await counted(server, "voice_encodings_total") == 2  # the narrator, anna
    sampler = r'kernel_implementation\{family="sampler",implementation="torch"\}'
    assert await counted(server, sampler) == 1
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.complaints

    again = serve(**qwen3_settings())
    async with session(again, Start(voice="anna")) as client:
        assert same_sound(await sound_of(client.speak(TEXT, seed=1)), first)
    assert await counted(again, "voice_encodings_total") == 0
    assert len(list((tmp_path / "cache" / "voices").iterdir())) == 2
