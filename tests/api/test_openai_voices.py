"""Voices under /v1: OpenAI's names, and voices that are listed, added and deleted as its clients do it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError

from makima_tts.settings import Settings
from tests.api.conftest import Run
from tests.api.service import RunningService
from tests.api.test_openai_speech import failure
from tests.audio.recordings import recorded
from tests.engines.directed import DirectedEngine
from tests.voices.clips import TRANSCRIPT, good_clip

URL = "/v1/audio/voices"


async def add(http: httpx.AsyncClient, name: str, clip: bytes | None = None, **fields: str) -> httpx.Response:
    form = {"name": name, "consent": "cons_1", **fields}
    return await http.post(URL, data=form, files={"audio_sample": ("upload", clip or good_clip())})


async def spoken(http: httpx.AsyncClient, voice: str | None) -> httpx.Response:
    body = {"input": "Hello.", "voice": voice, "response_format": "pcm", "seed": 1}
    return await http.post("/v1/audio/speech", json=body)


async def test_openais_names_are_spoken_by_whom_the_operator_chose(run: Run) -> None:
    async with run(openai_voices="alloy=anna, echo=gone") as service, service.http() as http:
        await service.until_ready()
        for name, pitch_hz in (("anna", 140.0), ("nova", 180.0)):
            assert (await add(http, name, good_clip(pitch_hz))).status_code == 200
        default, anna, nova = [(await spoken(http, name)).content for name in (None, "anna", "nova")]
        assert len({default, anna, nova}) == 3
        assert (await spoken(http, "alloy")).content == anna
        assert (await spoken(http, "verse")).content == default
        missing = await spoken(http, "echo")
        assert failure(missing) == (404, "invalid_request_error", "voice", "VOICE_NOT_FOUND")
        assert "gone" in missing.json()["error"]["message"]
        await http.delete(f"{URL}/nova")
        assert (await spoken(http, "nova")).content == default


@pytest.mark.parametrize("pairs", ["aloy=anna", "alloy", "alloy=anna=nova", "alloy=../x", "alloy=a,alloy=b"])
def test_a_misspelt_choice_of_voices_refuses_to_start(pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_OPENAI_VOICES", pairs)
    with pytest.raises(ValidationError):
        Settings(_env_file=None)


def test_all_thirteen_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_OPENAI_VOICES", " alloy = anna ,")
    speakers = Settings(_env_file=None).openai_speakers
    assert len(speakers) == 13
    assert {name: voice for name, voice in speakers.items() if voice} == {"alloy": "anna"}


async def test_every_way_to_add_a_voice_takes_the_same_names_and_recordings(service: RunningService) -> None:
    async with service.http() as http:
        first = await add(http, "Łukasz", recorded("ipod", "aac"))
        assert (first.json()["id"], first.json()["name"]) == ("lukasz", "Łukasz")
        form = {"name": "Lukász", "transcript": TRANSCRIPT}
        second = await http.post(
            "/api/v1/voices", data=form, files={"audio": ("a", recorded("webm", "libopus", 48_000))}
        )
        assert (second.json()["voice"]["id"], second.json()["report"]["sampleRate"]) == ("lukasz-2", 48_000)
        assert (await add(http, "ŁUKASZ")).status_code == 409
        for voice in ("lukasz", "lukasz-2"):
            assert (await spoken(http, voice)).status_code == 200


async def test_a_voice_is_added_listed_once_and_deleted(service: RunningService) -> None:
    async with service.http() as http:
        made = await add(http, "Anna K.", ref_text=TRANSCRIPT, language="en", type="audio_sample")
        voice = made.json()
        assert made.status_code == 200
        assert isinstance(voice.pop("created_at"), int)
        assert (voice["report"]["durationMs"], voice.pop("report")["warnings"]) == (6000, [])
        assert voice == {
            "id": "anna-k",
            "object": "audio.voice",
            "name": "Anna K.",
            "type": "audio_sample",
            "language": "English",
            "available": True,
            "reason": None,
        }
        listed = (await http.get(URL)).json()
        assert listed["object"] == "list"
        assert listed["voices"] == [
            {"id": "anna-k", "name": "Anna K."},
            {"id": "narrator", "name": "Narrator"},
        ]
        assert [one["id"] for one in listed["data"]] == ["anna-k", "narrator", "makima"]
        assert listed["data"][0] == voice
        assert failure(await add(http, "anna k")) == (409, "invalid_request_error", None, "CONFLICT")
        gone = await http.delete(f"{URL}/anna-k")
        assert gone.json() == {"id": "anna-k", "object": "audio.voice.deleted", "deleted": True}
        again = await http.delete(f"{URL}/anna-k")
        assert failure(again) == (404, "invalid_request_error", "voice", "VOICE_NOT_FOUND")
        assert failure(await http.delete(f"{URL}/narrator"))[:2] == (403, "permission_error")


async def test_a_voice_that_cannot_be_is_refused(service: RunningService) -> None:
    clip = {"audio_sample": ("a.wav", b"not sound")}
    async with service.http() as http:
        for form, files, param in [
            ({"name": "a", "consent": "c"}, clip, "audio_sample"),
            ({"name": "a"}, clip, "consent"),
            ({"consent": "c"}, clip, "name"),
            ({"name": "a", "consent": "c"}, None, "audio_sample"),
            ({"type": "prompt", "name": "a", "prompt": "An old man."}, None, "type"),
        ]:
            status, kind, faulty, _ = failure(await http.post(URL, data=form, files=files))
            assert (status in (400, 422), kind, faulty) == (True, "invalid_request_error", param)


async def test_uploads_are_guarded_as_on_the_other_path(run: Run) -> None:
    more = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await more.wait()

    form = {"content-type": "multipart/form-data; boundary=x"}
    async with run(max_upload_bytes=300_000) as service, service.http() as http:
        two = [
            asyncio.create_task(http.post(url, content=slowly(), headers=form))
            for url in (URL, "/api/v1/voices")
        ]
        async with asyncio.timeout(10):
            while (third := await http.post(URL, content=b"", headers=form)).status_code == 400:
                pass
        assert failure(third) == (429, "rate_limit_error", None, "RATE_LIMITED")
        more.set()
        await asyncio.gather(*two)
        # More than other bodies may have, and less.
        assert (await http.post(URL, content=b" " * 280_000, headers=form)).status_code == 400
        large = await http.post(URL, content=b" " * 300_001, headers=form)
        assert failure(large) == (413, "invalid_request_error", None, "PAYLOAD_TOO_LARGE")


async def test_an_engine_that_cannot_clone_speaks_for_all_of_openais_names(run: Run) -> None:
    async with run(DirectedEngine(cloning=False)) as service, service.http() as http:
        await service.until_ready()
        assert (await spoken(http, "alloy")).content == (await spoken(http, "narrator")).content
        listed = (await http.get(URL)).json()
        assert listed["voices"] == [{"id": "narrator", "name": listed["voices"][0]["name"]}]
