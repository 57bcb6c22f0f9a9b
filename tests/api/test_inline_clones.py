"""A clip that comes with a request: cloned for it, kept in memory only, refused in words."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from makima_tts.api import app as app_module
from makima_tts.speech import VoiceReference
from tests.api.conftest import Run
from tests.api.service import PATIENCE_S, RunningService, running
from tests.engines.directed import DirectedEngine
from tests.voices.clips import TRANSCRIPT, good_clip, silence, sound_file, speech

ROUTES = ["/v1/audio/speech", "/api/v1/tts"]
CLIP = base64.b64encode(good_clip()).decode()
MEBIBYTE = 2**20


class KeenEngine(DirectedEngine):
    """Remembers what it encoded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.references: list[VoiceReference] = []

    async def encode_voice(self, reference: VoiceReference) -> Any:
        self.references.append(reference)
        return await super().encode_voice(reference)


@pytest.fixture
def engine() -> KeenEngine:
    return KeenEngine()


@pytest.fixture
async def cloning(tmp_path: Path, engine: KeenEngine) -> AsyncIterator[RunningService]:
    """The default voice, which ships, is encoded by then."""
    async with running(tmp_path, engine) as service:
        await service.until_ready()
        engine.references.clear()
        yield service


def body(**fields: Any) -> dict[str, Any]:
    """For both routes: each ignores the other's field for the text."""
    return {"input": "Hello.", "text": "Hello.", "ref_audio": CLIP, **fields}


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("route", ROUTES)
async def test_a_clip_is_encoded_once_and_nothing_of_it_is_stored(
    cloning: RunningService, engine: KeenEngine, tmp_path: Path, route: str
) -> None:
    before = files_in(tmp_path)
    async with cloning.http() as http:
        for _ in range(2):
            answer = await http.post(route, json=body(ref_text=TRANSCRIPT))
            assert (answer.status_code, len(answer.content) > 1000) == (200, True)
    assert [(one.transcript, one.mode) for one in engine.references] == [(TRANSCRIPT, "icl")]
    assert files_in(tmp_path) == before


async def test_requests_at_once_share_one_encoding(run: Run) -> None:
    gate = asyncio.Event()
    gate.set()
    engine = KeenEngine(encode_gate=gate)
    async with run(engine) as service, service.http() as http:
        await service.until_ready()
        gate.clear()
        engine.references.clear()
        answers = [asyncio.create_task(http.post(route, json=body())) for route in ROUTES * 2]
        await service.until(lambda: b'result="joined"} 3.0' in service.service.metrics.render())
        gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*answers)} == {200}
    assert len(engine.references) == 1


async def test_a_client_that_leaves_while_its_clip_is_encoded_breaks_nothing(run: Run) -> None:
    gate = asyncio.Event()
    gate.set()
    engine = KeenEngine(encode_gate=gate)
    async with run(engine) as service:
        await service.until_ready()
        gate.clear()
        engine.references.clear()
        async with service.http() as http:
            leaver = asyncio.create_task(http.post(ROUTES[0], json=body()))
            await service.until(lambda: bool(engine.references))
            leaver.cancel()
            await asyncio.wait([leaver])
        await service.until(lambda: b'outcome="CANCELLED"} 1.0' in service.service.metrics.render())
        gate.set()
        async with service.http() as http:
            assert (await http.post(ROUTES[0], json=body())).status_code == 200
    assert len(engine.references) == 1


async def test_the_openai_client_sends_a_clip_and_the_clip_wins_over_the_voice(
    cloning: RunningService, engine: KeenEngine
) -> None:
    extra = {"task_type": "base", "ref_audio": f"data:audio/wav;base64,{CLIP}", "x_vector_only_mode": "true"}
    async with AsyncOpenAI(base_url=f"{cloning.url}/v1", api_key="none", max_retries=0) as client:
        spoken = await client.audio.speech.create(
            model="tts-1",
            voice="not-there",
            input="Hello.",
            extra_body={**extra, "ref_text": TRANSCRIPT},
        )
        assert len(spoken.content) > 100
    assert [(one.transcript, one.mode) for one in engine.references] == [(None, "xvector")]


@pytest.mark.parametrize(
    "names",
    [
        ("refAudio", "refText", "xVectorOnlyMode", "taskType"),
        ("ref_audio", "ref_text", "x_vector_only_mode", "task_type"),
    ],
)
async def test_our_own_route_takes_both_spellings(
    cloning: RunningService, engine: KeenEngine, names: tuple[str, ...]
) -> None:
    fields = dict(zip(names, (CLIP, TRANSCRIPT, False, "Base"), strict=True))
    async with cloning.http() as http:
        assert (await http.post(ROUTES[1], json={"text": "Hello.", **fields})).status_code == 200
    assert [one.transcript for one in engine.references] == [TRANSCRIPT]


async def test_another_transcript_is_another_voice(cloning: RunningService, engine: KeenEngine) -> None:
    async with cloning.http() as http:
        for transcript in (TRANSCRIPT, "", "Other words, as many as there may be in it."):
            await http.post(ROUTES[0], json=body(ref_text=transcript))
    assert len(engine.references) == 3


async def test_base64_may_have_line_breaks(cloning: RunningService, engine: KeenEngine) -> None:
    async with cloning.http() as http:
        broken = base64.encodebytes(good_clip()).decode()
        assert (await http.post(ROUTES[0], json=body(ref_audio=broken))).status_code == 200
    assert len(engine.references) == 1


SECRET = "Zwitschermaschine"
SHORT = base64.b64encode(sound_file(speech(1.0))).decode()
SILENT = base64.b64encode(sound_file(silence(6.0))).decode()


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"ref_audio": f"{SECRET}abc!"}, "INVALID_MESSAGE", "not base64"),
    ({"ref_audio": f"https://a.example/{SECRET}.wav"}, "INVALID_MESSAGE", "fetches no URL"),
    ({"ref_audio": f"FILE:///{SECRET}.wav"}, "INVALID_MESSAGE", "fetches no URL"),
    ({"ref_audio": f"data:audio/wav,{SECRET}"}, "INVALID_MESSAGE", "must be base64"),
    ({"ref_audio": [SECRET]}, "INVALID_MESSAGE", "string"),
    ({"ref_audio": base64.b64encode(SECRET.encode()).decode()}, "INVALID_AUDIO", "sound file"),
    ({"ref_audio": SHORT}, "INVALID_AUDIO", "1.0 s"),
    ({"ref_audio": SILENT}, "INVALID_AUDIO", "silent"),
    ({"ref_text": SECRET * 200}, "INVALID_MESSAGE", "2000"),
    ({"ref_audio": None}, "INVALID_MESSAGE", "ref_audio"),
    ({"ref_audio": "", "ref_text": "", "x_vector_only_mode": True}, "INVALID_MESSAGE", "ref_audio"),
    ({"task_type": SECRET}, "INVALID_MESSAGE", "'Base'"),
    ({"task_type": "VoiceDesign"}, "INVALID_MESSAGE", "description"),
    ({"task_type": "CustomVoice"}, "INVALID_MESSAGE", "ref_audio"),
    ({"speaker_embedding": [0.5]}, "INVALID_MESSAGE", "embedding"),
]


@pytest.mark.parametrize("route", ROUTES)
async def test_what_cannot_be_cloned_is_refused_without_a_word_of_it(
    cloning: RunningService, engine: KeenEngine, capfd: pytest.CaptureFixture[str], route: str
) -> None:
    async with cloning.http() as http:
        for fields, code, says in REFUSED:
            answer = await http.post(route, json=body(ref_text=SECRET) | fields)
            status = {"INVALID_MESSAGE": 400, "INVALID_AUDIO": 422}[code]
            assert error_of(answer)[:2] == (status, code), fields
            assert says in error_of(answer)[2]
            assert SECRET not in answer.text + "".join(capfd.readouterr())
            assert CLIP[:40] not in answer.text
    assert not engine.references


@pytest.mark.parametrize("route", ROUTES)
async def test_a_voice_of_the_library_is_a_task_too(cloning: RunningService, route: str) -> None:
    async with cloning.http() as http:
        for task in ("CustomVoice", "Base"):
            answer = await http.post(route, json=body(ref_audio=None, voice="narrator", task_type=task))
            assert answer.status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_an_engine_that_cannot_clone_says_so(run: Run, route: str) -> None:
    async with run(DirectedEngine(cloning=False)) as service, service.http() as http:
        await service.until_ready()
        status, code, message = error_of(await http.post(route, json=body()))
        assert (status, code) == (400, "INVALID_MESSAGE")
        assert "cannot clone" in message
        assert "makima-tts[qwen3]" in message
        assert (await http.post(route, json=body(ref_audio=None))).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_bodies_are_bounded(run: Run, route: str) -> None:
    async with run(KeenEngine(), max_upload_bytes=MEBIBYTE) as service, service.http() as http:
        await service.until_ready()
        answers = [
            await http.post(route, json=body(ref_audio="A" * (2 * MEBIBYTE))),
            await http.post(route, json=body(input="A" * (MEBIBYTE // 2), text="A" * (MEBIBYTE // 2))),
            await http.post(route, json=body(more=[[]] * 50_000)),
            await http.post("/v1/models", json=body(ref_audio="A" * MEBIBYTE)),
        ]
        assert [answer.status_code for answer in answers] == [413, 413, 400, 413]
        assert "beside a clip" in error_of(answers[1])[2]


async def test_so_many_at_once_and_others_are_told_to_wait(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "_CLONES_AT_ONCE", 1)
    gate = asyncio.Event()
    gate.set()
    engine = KeenEngine(encode_gate=gate)
    async with run(engine) as service, service.http() as http:
        await service.until_ready()
        gate.clear()
        engine.references.clear()
        first = asyncio.create_task(http.post(ROUTES[0], json=body()))
        await service.until(lambda: bool(engine.references))
        second = await http.post(ROUTES[0], json=body())
        assert error_of(second)[:2] == (429, "RATE_LIMITED")
        assert int(second.headers["retry-after"]) >= 1
        gate.set()
        assert (await first).status_code == 200
        assert (await http.post(ROUTES[0], json=body())).status_code == 200


async def test_a_body_that_does_not_go_on_is_given_up_and_a_whole_one_is_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "_UPLOAD_SILENCE_S", 0.2)
    gate = asyncio.Event()
    gate.set()
    async with run(KeenEngine(encode_gate=gate)) as service, service.http() as http:
        await service.until_ready()
        gate.clear()
        whole = asyncio.create_task(http.post(ROUTES[0], json=body()))

        port = int(service.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = json.dumps(body()).encode()
        head = f"POST {ROUTES[0]} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent[:-10])
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()
        assert not whole.done()
        gate.set()
        assert (await whole).status_code == 200
