"""The HTTP routes: speech as a stream, failures in one shape, guards."""

import asyncio
import io
import json
import struct
from collections.abc import AsyncIterator
from contextlib import nullcontext
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from makima_tts.api import app
from makima_tts.audio import MEDIA_TYPES, rate_of
from tests.api.conftest import Run
from tests.api.service import RunningService
from tests.audio.streams import decoded
from tests.engines.directed import DirectedEngine


async def test_speech_over_http_is_the_speech_of_the_websocket(service: RunningService) -> None:
    wanted = {"text": "The same words twice. And a second sentence.", "seed": 3, "sampleRate": 16000}
    async with service.http() as http:
        pcm = await http.post("/api/v1/tts", json={**wanted, "format": "pcm"})
        wav = await http.post("/api/v1/tts", json=wanted)
    async with service.started(sampleRate=16000) as client:
        await client.send("speak", text=wanted["text"], seed=3)
        _, before = await client.until("complete")
    spoken = b"".join(frame for frame in before if isinstance(frame, bytes))
    assert pcm.headers["content-type"] == "audio/pcm"
    assert pcm.content == spoken
    assert wav.headers["content-type"] == "audio/wav"
    assert wav.content[44:] == spoken


async def test_a_streamed_wav_is_one_that_players_read(service: RunningService) -> None:
    async with service.http() as http:
        wav = (await http.post("/api/v1/tts", json={"text": "Hello there."})).content
    # Players take the length of a stream from its end; a decoder of files is shown it here.
    length = len(wav) - 44
    finished = wav[:4] + struct.pack("<I", length + 36) + wav[8:40] + struct.pack("<I", length) + wav[44:]
    audio, rate_hz = soundfile.read(io.BytesIO(finished))
    assert rate_hz == 24000
    assert np.abs(audio).max() > 0.2
    assert wav[4:8] == wav[40:44] == b"\xff" * 4


@pytest.mark.parametrize("speed", [1.0, 0.5])
async def test_every_format_holds_the_whole_text_at_the_speed_asked_for(
    service: RunningService, speed: float
) -> None:
    async with service.http() as http:
        for wanted, media_type in MEDIA_TYPES.items():
            body = {"text": "Hello there.", "format": wanted, "speed": speed}
            answer = await http.post("/api/v1/tts", json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
            heard, rate_hz = decoded(answer.content, wanted, rate_of(wanted, None))
            assert 0 <= heard.size / rate_hz - 0.72 / speed < 0.1
            assert np.abs(heard).max() > 0.2


async def test_speech_is_streamed_while_it_is_made(service: RunningService) -> None:
    body = {"text": "It never {endless} ends.", "format": "pcm"}
    async with service.http() as http, http.stream("POST", "/api/v1/tts", json=body) as answer:
        async for chunk in answer.aiter_bytes():
            assert chunk
            break
    await service.until_idle()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": "It breaks {fail} here."}, None, None),
        ({"text": "{fail}a"}, 500, "SYNTHESIS_ERROR"),
        ({"text": "{oom}a"}, 503, "GPU_OUT_OF_MEMORY"),
        ({"text": "{foreign}a"}, 400, "INVALID_TEXT"),
        ({"text": "..."}, 400, "INVALID_TEXT"),
        ({"text": "a" * 20_001}, 400, "INVALID_TEXT"),
        ({"text": 5}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "sampleRate": "fast"}, 400, "INVALID_MESSAGE"),
        ({}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "voice": "../etc/passwd"}, 404, "VOICE_NOT_FOUND"),
        ({"text": "a", "language": "Klingon"}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "format": "midi"}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "sampleRate": 1}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "format": "opus", "sampleRate": 44100}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "format": "alaw", "sampleRate": 24000}, 400, "INVALID_MESSAGE"),
        ({"text": "a", "speed": 2.01}, 400, "INVALID_MESSAGE"),
    ],
    ids=str,
)
async def test_failures_before_the_first_byte_have_a_status_and_a_code(
    service: RunningService, body: dict[str, object], status: int | None, code: str | None
) -> None:
    async with service.http() as http:
        if status is None:
            with pytest.raises(Exception, match=r"peer closed|incomplete|disconnect"):
                await http.post("/api/v1/tts", json=body)
        else:
            answer = await http.post("/api/v1/tts", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert set(answer.json()) == {"error"}
            assert set(answer.json()["error"]) - {"reason"} == {"code", "message"}
            assert answer.json()["error"].get("reason") == (
                "nothing_to_say" if body == {"text": "..."} else None
            )
    await service.until_idle()


async def test_who_sends_code_alone_is_told_why_nothing_is_heard(service: RunningService) -> None:
    async with service.http() as http:
        answer = await http.post("/api/v1/tts", json={"text": "```py\nx = 1\n```"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_TEXT")
    assert "block of code" in answer.json()["error"]["message"]


async def test_null_means_absent_and_half_a_character_is_left_out(service: RunningService) -> None:
    async with service.http() as http:
        optional = dict.fromkeys(["voice", "language", "format", "sampleRate", "seed"])
        assert (await http.post("/api/v1/tts", json={"text": "Hello.", **optional})).status_code == 200
        torn = await http.post(
            "/api/v1/tts", content=b'{"text":"\\ud800 a"}', headers={"content-type": "application/json"}
        )
        assert torn.status_code == 200
        named = await http.post(
            "/v1/audio/speech",
            content=b'{"input":"a","voice":{"id":"\\ud800"}}',
            headers={"content-type": "application/json"},
        )
        assert (named.status_code, named.json()["error"]["code"]) == (404, "VOICE_NOT_FOUND")


async def test_leaving_before_the_first_byte_frees_the_engine(service: RunningService) -> None:
    body = json.dumps({"text": "{stall}a"}).encode()
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/v1/tts HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    await service.until_active(1)
    writer.transport.abort()
    await service.until_idle()


@pytest.mark.parametrize(("text", "status"), [("{stall}a", 408), ("Said {stall} and stuck.", 200)])
async def test_an_engine_that_falls_silent_times_out(run: Run, text: str, status: int) -> None:
    async with run(utterance_timeout_s=0.1) as service, service.http() as http:
        await service.until_ready()
        async with http.stream("POST", "/api/v1/tts", json={"text": text}) as answer:
            assert answer.status_code == status
            with pytest.raises(httpx.RemoteProtocolError) if status == 200 else nullcontext():
                await answer.aread()
        await service.until_idle()
        assert "TIMEOUT" in (await http.get("/metrics")).text


async def test_no_room_is_429_with_retry_after(run: Run) -> None:
    engine = DirectedEngine(capacity=0)
    async with run(engine, utterance_timeout_s=0.1) as service, service.http() as http:
        await service.until_ready()
        answer = await http.post("/api/v1/tts", json={"text": "a"})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_loading_service_lives_but_is_not_ready(run: Run) -> None:
    gate = asyncio.Event()
    async with run(DirectedEngine(load_gate=gate)) as service, service.http() as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        for answer in (await http.get("/ready"), await http.post("/api/v1/tts", json={"text": "a"})):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "MODEL_LOADING"
            assert int(answer.headers["retry-after"]) >= 1
        gate.set()
        async with service.client() as client:
            await client.until("ready")
        ready = await http.get("/ready")
        assert ready.status_code == 200
        assert ready.json()["engine"] == "scripted"


async def test_a_service_whose_model_failed_says_so(run: Run) -> None:
    async with run(DirectedEngine(fail_to_load=True)) as service, service.http() as http:
        async with service.client() as client:
            await client.rest()
        answer = await http.get("/ready")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "TTS_UNAVAILABLE")


async def test_bodies_over_the_limit_are_413_declared_or_not(service: RunningService) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    async with service.http() as http:
        for body in (b'{"text": "%b"}' % (b"a" * 300_000), trickle()):
            answer = await http.post(
                "/api/v1/tts", content=body, headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_crowd_of_uploads_is_asked_to_wait(service: RunningService) -> None:
    more = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await more.wait()

    form = {"content-type": "multipart/form-data; boundary=x"}
    async with service.http() as http:
        two = [asyncio.create_task(http.post("/api/v1/voices", content=slowly(), headers=form)) for _ in "ab"]
        async with asyncio.timeout(10):
            while (third := await http.post("/api/v1/voices", content=b"", headers=form)).status_code == 400:
                pass
        assert (third.status_code, third.json()["error"]["code"]) == (429, "RATE_LIMITED")
        assert int(third.headers["retry-after"]) >= 1
        more.set()
        assert [(await post).status_code for post in two] == [400, 400]
        assert (await http.post("/api/v1/voices", content=b"", headers=form)).status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/voices", "/v1/audio/voices"])
async def test_an_upload_that_falls_silent_keeps_nobody_waiting(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A plug that is pulled says nothing; two of them would be the last uploads."""
    monkeypatch.setattr(app, "_UPLOAD_SILENCE_S", 0.05)
    where = urlsplit(service.url)
    form = "content-length: 99\r\ncontent-type: multipart/form-data; boundary=x"
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\n{form}\r\n\r\n--x".encode())
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_pages_of_other_origins_may_change_nothing(service: RunningService) -> None:
    async with service.http() as http:
        unreadable = await http.post("/api/v1/tts", headers={"origin": "http://["})
        assert unreadable.status_code == 403
        for path in ("/api/v1/tts", "/api/v1/voices", "/api/v1/contracts/c/interrupt"):
            answer = await http.post(path, headers={"origin": "https://evil.example"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
        assert (await http.get("/health", headers={"origin": "https://evil.example"})).status_code == 200


async def test_unknown_routes_and_methods_answer_in_the_same_shape(service: RunningService) -> None:
    async with service.http() as http:
        missing = await http.get("/nowhere")
        wrong = await http.delete("/health")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_the_page_loads_nothing_from_elsewhere(service: RunningService) -> None:
    async with service.http() as http:
        page = await http.get("/speak")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "http://" not in page.text.replace("http://www.w3.org", "")
        assert (await http.get("/", follow_redirects=True)).text == page.text


async def test_openapi_names_every_route(service: RunningService) -> None:
    async with service.http() as http:
        schema = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    paths = schema["paths"]
    assert "HTTPValidationError" not in str(schema), "a request that does not fit is answered with ErrorBody"
    assert {"400", "404", "408", "413", "429", "500", "503"} <= set(paths["/api/v1/tts"]["post"]["responses"])
    assert {
        *["/api/v1/voices", "/api/v1/voices/{voice_id}", "/api/v1/tts"],
        *["/api/v1/contracts/{contract_id}/interrupt", "/health", "/ready", "/metrics"],
    } <= set(paths)


async def test_speech_over_http_is_counted_too(service: RunningService) -> None:
    async with service.http() as http:
        await http.post("/api/v1/tts", json={"text": "Hello there."})
        metrics = (await http.get("/metrics")).text.splitlines()
    assert 'makima_tts_utterances_total{outcome="complete"} 1.0' in metrics
    assert "makima_tts_audio_seconds_total 0.72" in [line[:35] for line in metrics]


async def test_metrics_tell_what_happened(service: RunningService) -> None:
    async with service.started() as client:
        await client.send("speak", text="To be counted.")
        await client.until("complete")
        await client.send("speak", text="To be {endless} cancelled.")
        while not isinstance(await client.next(), bytes):
            pass
        await client.send("cancel")
        await client.until("error")
        async with service.http() as http:
            metrics = (await http.get("/metrics")).text
    for line in (
        'makima_tts_utterances_total{outcome="complete"} 1.0',
        'makima_tts_utterances_total{outcome="CANCELLED"} 1.0',
        "makima_tts_ttfa_seconds_count 2.0",
        "makima_tts_sessions 1.0",
        "makima_tts_rtf_count 1.0",
    ):
        assert line in metrics.splitlines()
