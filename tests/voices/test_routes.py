"""Voices over HTTP, through the real routes, failures and body limit."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from makima_tts.api.app import BodyLimit
from makima_tts.api.failures import install_failures
from makima_tts.api.native.routes import voices_router
from makima_tts.voices import VoiceManager
from tests.voices.clips import TRANSCRIPT, good_clip, silence, sound_file
from tests.voices.conftest import Place, WatchedEngine, make_voice

MAX_UPLOAD_BYTES = 4 * 2**20
URL = "/api/v1/voices"


def voices_app(manager: VoiceManager, max_upload_bytes: int = MAX_UPLOAD_BYTES) -> FastAPI:
    app = FastAPI()
    install_failures(app)
    app.include_router(voices_router(manager))
    app.add_middleware(BodyLimit, max_upload_bytes=max_upload_bytes)
    return app


@pytest.fixture
async def http(place: Place, engine: WatchedEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(voices_app(place.manager(engine)))
    async with httpx.AsyncClient(transport=transport, base_url="http://voices") as client:
        yield client


async def post(http: httpx.AsyncClient, audio: bytes | None = None, **fields: str) -> httpx.Response:
    form = {"name": "Anna", "transcript": TRANSCRIPT, **fields}
    return await http.post(URL, data=form, files={"audio": ("a.wav", audio or good_clip(), "audio/wav")})


def failure(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "message"}
    return response.status_code, body["error"]["code"]


async def test_all_voices_are_listed_with_what_clients_need(http: httpx.AsyncClient) -> None:
    response = await http.get(URL)
    assert response.status_code == 200
    makima, narrator = response.json()["voices"]
    assert narrator == {
        "id": "narrator",
        "name": "Narrator",
        "language": "English",
        "description": "",
        "isDefault": False,
        "available": True,
        "reason": None,
    }
    assert (makima["id"], makima["isDefault"], makima["available"]) == ("makima", True, False)
    assert "reference.wav" in makima["reason"]


async def test_one_voice_is_as_it_is_in_the_list(http: httpx.AsyncClient) -> None:
    listed = (await http.get(URL)).json()["voices"]
    assert (await http.get(f"{URL}/makima")).json() == listed[0]


@pytest.mark.parametrize(
    "voice_id",
    [
        "nobody",
        "Narratress",
        "a" * 65,
        "narrator%00",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%F0%9F%98%80",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_voice_is_not_found(http: httpx.AsyncClient, method: str, voice_id: str) -> None:
    response = await http.request(method, f"{URL}/{voice_id}")
    assert failure(response)[0] == 404
    assert "passwd" not in response.text


async def test_a_malformed_id_is_a_voice_that_is_not_there(http: httpx.AsyncClient) -> None:
    assert failure(await http.get(f"{URL}/NOBODY")) == (404, "VOICE_NOT_FOUND")


async def test_a_voice_is_added_with_a_report_listed_and_deleted(http: httpx.AsyncClient) -> None:
    response = await post(http, language="en-GB", description="Warm.", consent="She agreed.")
    assert response.status_code == 201
    assert response.json()["voice"] == {
        "id": "anna",
        "name": "Anna",
        "language": "English",
        "description": "Warm.",
        "isDefault": False,
        "available": True,
        "reason": None,
    }
    report = response.json()["report"]
    assert report.keys() == {
        "durationMs",
        "usedMs",
        "sampleRate",
        "channels",
        "levelDbfs",
        "peakDbfs",
        "clippedRatio",
        "noiseFloorDbfs",
        "trailingSilenceMs",
        "mended",
        "warnings",
    }
    assert (report["durationMs"], report["sampleRate"], report["warnings"]) == (6000, 24_000, [])
    assert (await http.get(f"{URL}/anna")).json() == response.json()["voice"]
    deleted = await http.delete(f"{URL}/anna")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert failure(await http.delete(f"{URL}/anna")) == (404, "VOICE_NOT_FOUND")


async def test_what_ships_cannot_be_deleted(http: httpx.AsyncClient) -> None:
    assert failure(await http.delete(f"{URL}/narrator")) == (403, "FORBIDDEN")


async def test_a_name_that_is_taken_is_a_conflict(http: httpx.AsyncClient) -> None:
    assert (await post(http)).status_code == 201
    assert failure(await post(http, name="ANNA")) == (409, "CONFLICT")
    assert failure(await post(http, name="Narrator")) == (409, "CONFLICT")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"transcript": ""}, "transcript"),
        ({"name": "?"}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"transcript": "a" * 2001}, "transcript"),
        ({"language": "Klingon"}, "language"),
        ({"mode": "magic"}, "mode"),
        ({"consent": "a" * 501}, "consent"),
    ],
)
async def test_a_wrong_field_is_named_and_not_repeated(
    http: httpx.AsyncClient, fields: dict[str, str], words: str
) -> None:
    response = await post(http, None, **fields)
    assert failure(response) == (400, "INVALID_MESSAGE")
    assert words in response.json()["error"]["message"]
    assert "Klingon" not in response.text


async def test_a_form_without_its_parts_is_refused(http: httpx.AsyncClient) -> None:
    assert failure(await http.post(URL, data={"name": "Anna"})) == (400, "INVALID_MESSAGE")
    assert failure(await http.post(URL, files={"audio": ("a", b"x")})) == (400, "INVALID_MESSAGE")
    assert failure(await http.post(URL, json={"name": "Anna"})) == (400, "INVALID_MESSAGE")
    assert failure(await http.post(URL, data={"name": "Anna", "audio": "words"})) == (400, "INVALID_MESSAGE")


async def test_a_clip_that_cannot_be_used_is_refused_with_the_reason(http: httpx.AsyncClient) -> None:
    response = await post(http, sound_file(silence(4.0)))
    assert failure(response) == (422, "INVALID_AUDIO")
    assert "silent" in response.json()["error"]["message"]


async def test_a_body_over_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    assert failure(await post(http, bytes(MAX_UPLOAD_BYTES))) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_place_that_cannot_be_written_is_unavailable(place: Place, http: httpx.AsyncClient) -> None:
    place.voices_dir.write_text("A file is in the way.")
    response = await post(http)
    assert failure(response) == (503, "TTS_UNAVAILABLE")
    assert str(place.root) not in response.text


async def test_broken_voices_are_listed_beside_the_others(place: Place, http: httpx.AsyncClient) -> None:
    (make_voice(place.voices_dir, "broken") / "manifest.json").write_text("{")
    voices = {voice["id"]: voice for voice in (await http.get(URL)).json()["voices"]}
    assert not voices["broken"]["available"]
    assert str(place.root) not in voices["broken"]["reason"]
    assert voices["narrator"]["available"]


async def test_the_schema_has_requests_and_errors(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    added = paths[URL]["post"]
    assert set(added["responses"]) >= {"201", "400", "409", "413", "422", "503"}
    assert set(paths[f"{URL}/{{voice_id}}"]["delete"]["responses"]) >= {"204", "403", "404"}
