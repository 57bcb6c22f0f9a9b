"""POST /v1/audio/speech: every format, as a body and as events, and what it says when it cannot."""

import asyncio
import base64
import gc
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args
from weakref import ReferenceType, ref

import httpx
import numpy as np
import pytest

from makima_tts import speaking
from makima_tts.audio import MEDIA_TYPES, OutputFormat, SpeechEncoder, open_encoder
from tests.api.conftest import Run
from tests.api.service import PATIENCE_S, RunningService
from tests.clients.audio import BLOCKS_MS, decoded
from tests.engines.directed import DirectedEngine
from tests.sentences import WORDLESS
from tests.transport.processes import ServerProcess, eventually
from tests.voices.conftest import make_voice

URL = "/v1/audio/speech"
MAGIC: dict[OutputFormat, bytes] = {
    "wav": b"RIFF\xff\xff\xff\xffWAVE",
    "mp3": b"\xff\xf3",
    "opus": b"OggS",
    "flac": b"fLaC",
    "aac": b"\xff\xf1",
}
# Ten characters, 60 ms each, are 7.5 frames of the scripted engine: it speaks whole ones.
TEXT, SAMPLES = "Ten chars.", 8 * 1920


def events_of(body: str) -> Iterator[dict[str, Any]]:
    """The data of each event; comments are passed over."""
    for block in body.split("\n\n"):
        if block.startswith("data: "):
            yield json.loads(block.removeprefix("data: "))


def failure(answer: httpx.Response) -> tuple[int, str, str | None, str]:
    error = answer.json()["error"]
    assert answer.json().keys() == {"error"}
    assert error.keys() == {"message", "type", "param", "code"}
    return answer.status_code, error["type"], error["param"], error["code"]


async def test_every_format_is_what_it_says_and_its_events_hold_the_same_bytes(
    service: RunningService,
) -> None:
    async with service.http() as http:
        for form in get_args(OutputFormat):
            body = {"model": "any", "input": TEXT, "response_format": form}
            audio = await http.post(URL, json=body)
            assert (audio.status_code, audio.headers["content-type"]) == (200, MEDIA_TYPES[form])
            assert audio.content.startswith(MAGIC.get(form, b""))
            answer = await http.post(URL, json={**body, "stream_format": "sse"})
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "no-cache" in answer.headers["cache-control"]
            *deltas, done = events_of(answer.text)
            assert {event["type"] for event in deltas} == {"speech.audio.delta"}
            assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == audio.content
            usage = {"input_tokens": 10, "output_tokens": 8, "total_tokens": 18}
            assert done == {"type": "speech.audio.done", "usage": usage}
        metrics = (await http.get("/metrics")).text.splitlines()
    assert f'makima_tts_utterances_total{{outcome="complete"}} {2.0 * len(MEDIA_TYPES)}' in metrics


async def test_what_is_left_out_null_or_unknown_changes_nothing(service: RunningService) -> None:
    absent = dict.fromkeys(["model", "voice", "response_format", "speed", "stream_format", "instructions"])
    async with service.http() as http:
        plain = await http.post(URL, json={"input": TEXT})
        full = await http.post(URL, json={"input": TEXT, **absent, "voice_settings": {"x": 1}})
        assert plain.headers["content-type"] == "audio/mpeg"
        assert "x-ignored-parameters" not in plain.headers
        assert plain.content == full.content
        odd = await http.post(URL, json={"input": TEXT, "model": 5, "instructions": ["Be sad."]})
        assert odd.content == plain.content
        told = await http.post(URL, json={"input": TEXT, "instructions": "Be sad."})
        assert told.headers["x-ignored-parameters"] == "instructions"
        assert told.content == plain.content


async def test_rates_speeds_and_seeds_are_those_asked_for(service: RunningService) -> None:
    async with service.http() as http:

        async def spoken(**fields: object) -> bytes:
            answer = await http.post(URL, json={"input": TEXT, "response_format": "pcm", **fields})
            assert answer.status_code == 200
            return answer.content

        plain = await spoken(seed=1, language="de")
        assert len(plain) == 2 * SAMPLES
        assert len(await spoken(sample_rate=8000)) == 2 * SAMPLES // 3
        assert len(await spoken(response_format="mulaw")) == SAMPLES // 3
        assert abs(len(await spoken(speed=2)) - SAMPLES) < SAMPLES // 20
        assert await spoken(seed=1) == plain
        assert await spoken(seed=2) != plain


async def test_seconds_are_counted_as_they_are_heard_and_frames_as_they_are_made(
    service: RunningService,
) -> None:
    body = {"input": TEXT, "speed": 0.5, "stream_format": "sse"}
    async with service.http() as http:
        *_, done = events_of((await http.post(URL, json=body)).text)
        metrics = (await http.get("/metrics")).text.splitlines()
    assert done["usage"]["output_tokens"] == 8
    assert f"makima_tts_audio_seconds_total {2 * SAMPLES / 24_000}" in metrics


async def test_failures_before_the_first_byte_have_a_status_and_openais_shape(
    service: RunningService,
) -> None:
    ours, theirs, wrong = "invalid_request_error", "server_error", "INVALID_MESSAGE"
    async with service.http() as http:
        refused: list[tuple[dict[str, object], tuple[int, str, str | None, str]]] = [
            ({"input": "{fail}a"}, (500, theirs, None, "SYNTHESIS_ERROR")),
            ({"input": "{oom}a"}, (503, theirs, None, "GPU_OUT_OF_MEMORY")),
            ({"input": "{foreign}a"}, (400, ours, "input", "INVALID_TEXT")),
            ({"input": "a" * 20_001}, (400, ours, "input", "INVALID_TEXT")),
            ({}, (400, ours, "input", wrong)),
            ({"input": "a", "voice": "nobody"}, (404, ours, "voice", "VOICE_NOT_FOUND")),
            ({"input": "a", "voice": {"id": "no"}}, (404, ours, "voice", "VOICE_NOT_FOUND")),
            ({"input": "a", "voice": 5}, (400, ours, "voice", wrong)),
            ({"input": "a", "response_format": "avi"}, (400, ours, "response_format", wrong)),
            ({"input": "a", "speed": 4}, (400, ours, "speed", wrong)),
            ({"input": "a", "sample_rate": 1}, (400, ours, "sample_rate", wrong)),
            ({"input": "a", "sample_rate": 44100, "response_format": "opus"}, (400, ours, None, wrong)),
            ({"input": "a", "language": "Klingon"}, (400, ours, "language", wrong)),
        ]
        for (body, expected), stream in product(refused, ("audio", "sse")):
            answer = await http.post(URL, json={"stream_format": stream, **body})
            assert failure(answer) == expected, body
        torn = await http.post(URL, content=b"{", headers={"content-type": "application/json"})
        assert failure(torn) == (400, ours, None, wrong)
    await service.until_idle()


async def test_a_turn_without_words_is_a_short_silence_in_every_format(service: RunningService) -> None:
    """0.2 s; an encoder's blocks add up to two of its own."""
    async with service.http() as http:
        for form, text in product(get_args(OutputFormat), ("...", "\N{THUMBS UP SIGN}")):
            body = {"input": text, "response_format": form}
            audio = await http.post(URL, json=body)
            assert (audio.status_code, audio.headers["content-type"]) == (200, MEDIA_TYPES[form])
            heard, rate_hz = decoded(audio.content, form)
            assert heard.size / rate_hz == pytest.approx(0.2, abs=BLOCKS_MS.get(form, 0) / 1000)
            assert np.abs(heard).max() < 0.001
            answer = await http.post(URL, json={**body, "stream_format": "sse"})
            *deltas, done = events_of(answer.text)
            assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == audio.content
            assert done["usage"]["output_tokens"] == 3
        metrics = (await http.get("/metrics")).text.splitlines()
    assert "makima_tts_ttfa_seconds_count 0.0" in metrics
    assert f'makima_tts_utterances_total{{outcome="complete"}} {4.0 * len(MEDIA_TYPES)}' in metrics


@pytest.mark.parametrize("text", WORDLESS)
async def test_every_text_without_words_is_silence_and_the_engine_is_left_alone(
    service: RunningService, text: str
) -> None:
    async with service.http() as http:
        for voice in (None, "nobody"):
            body = {"input": text, "response_format": "pcm", "speed": 2, "voice": voice}
            answer = await http.post(URL, json=body)
            assert (answer.status_code, answer.content) == (200, bytes(2 * 4800))


async def test_what_fails_halfway_breaks_off_and_events_say_why(service: RunningService) -> None:
    body = {"input": "It breaks {fail} here.", "response_format": "pcm"}
    async with service.http() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(URL, json=body)
        answer = await http.post(URL, json={**body, "stream_format": "sse"})
        *deltas, last = events_of(answer.text)
    assert deltas
    assert last["type"] == "error"
    assert last["error"]["code"] == "SYNTHESIS_ERROR"
    assert last["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("text", ["{fail}a", "It breaks {fail} here."])
def test_a_failure_is_found_in_the_log_by_the_id_of_its_answer(
    scripted_service: ServerProcess, text: str
) -> None:
    with httpx.Client(base_url=scripted_service.url, trust_env=False) as http:
        assert eventually(lambda: http.get("/ready").status_code == 200, within_s=PATIENCE_S)
        answer = http.post(URL, json={"input": text, "stream_format": "sse"})
    assert "SYNTHESIS_ERROR" in answer.text
    request_id = answer.headers["x-request-id"]
    assert eventually(lambda: request_id in scripted_service.complaints, within_s=PATIENCE_S)


async def test_who_waits_for_events_is_told_that_the_connection_lives(run: Run, tmp_path: Path) -> None:
    """What was begun for that has no status for a failure any more."""
    make_voice(tmp_path / "voices", "anna")
    body = {"input": "{fail}a", "voice": "anna", "stream_format": "sse"}
    encoded = asyncio.Event()
    encoded.set()
    async with run(DirectedEngine(encode_gate=encoded)) as service, service.http() as http:
        await service.until_ready()
        service.service.keep_alive_s = 0.01
        encoded.clear()
        async with http.stream("POST", URL, json=body) as answer:
            assert answer.status_code == 200
            text = answer.aiter_text()
            assert (await anext(text)).startswith(": ")
            assert (await anext(text)).startswith(": ")
            encoded.set()
            rest = "".join([part async for part in text])
        assert [event["error"]["code"] for event in events_of(rest)] == ["SYNTHESIS_ERROR"]


async def test_who_waits_in_vain_has_a_status(run: Run) -> None:
    async with run(utterance_timeout_s=0.01) as service, service.http() as http:
        await service.until_ready()
        answer = await http.post(URL, json={"input": "{stall}a", "stream_format": "sse"})
        assert failure(answer) == (408, "server_error", None, "TIMEOUT")


async def test_leaving_frees_the_engine_before_and_after_the_first_byte(service: RunningService) -> None:
    async with service.http() as http:
        for stream in ("audio", "sse"):
            fields = {"stream_format": stream, "response_format": "pcm"}
            async with http.stream("POST", URL, json={"input": "It {endless} goes on.", **fields}) as answer:
                await anext(answer.aiter_bytes())
            await service.until_idle()
            waiting = asyncio.create_task(http.post(URL, json={"input": "{stall}a", **fields}))
            await service.until_active(1)
            waiting.cancel()
            await service.until_idle()


async def test_an_encoder_is_freed_when_its_client_disconnects(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only once the garbage collector comes: FFmpeg's threads and memory are nothing that it counts."""
    opened: list[ReferenceType[SpeechEncoder]] = []

    def noted(*args: Any, **options: Any) -> SpeechEncoder:
        encoder = open_encoder(*args, **options)
        opened.append(ref(encoder))
        return encoder

    monkeypatch.setattr(speaking, "open_encoder", noted)
    body = {"input": "It {endless} goes on.", "response_format": "flac"}
    gc.collect()
    gc.disable()
    try:
        async with service.http() as http:
            for stream in ("audio", "sse"):
                async with http.stream("POST", URL, json={**body, "stream_format": stream}) as answer:
                    await anext(answer.aiter_bytes())
            await service.until(lambda: not any(encoder() for encoder in opened))
        assert len(opened) == 2
    finally:
        gc.enable()


async def test_no_room_loading_and_draining_say_when_to_try_again(run: Run) -> None:
    gate = asyncio.Event()
    engine = DirectedEngine(capacity=0, load_gate=gate)
    async with run(engine, utterance_timeout_s=0.1) as service, service.http() as http:

        async def refusal() -> tuple[int, str, str | None, str]:
            answer = await http.post(URL, json={"input": "a", "stream_format": "sse"})
            assert int(answer.headers["retry-after"]) >= 1
            return failure(answer)

        assert await refusal() == (503, "server_error", None, "MODEL_LOADING")
        gate.set()
        await service.until_ready()
        assert await refusal() == (429, "rate_limit_error", None, "RATE_LIMITED")
        service.service.begin_drain()
        assert await refusal() == (503, "server_error", None, "TTS_UNAVAILABLE")
