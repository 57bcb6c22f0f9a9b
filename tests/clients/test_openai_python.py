"""The unmodified openai package for Python against a server process."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, cast

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.clients.audio import BLOCKS_MS, MEDIA, TEXT, TEXT_MS, decoded, duration_ms
from tests.clients.conftest import CLIP, until_ready
from tests.clients.gauges import falls_silent, gauge
from tests.conftest import service_process
from tests.transcribe import transcribe, word_error_rate
from tests.transport.processes import ServerProcess
from tests.transport.wire import Wire

pytestmark = pytest.mark.process

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
OURS = ("mulaw", "alaw")
SENTENCE = "The old clock on the wall has stopped, and nobody remembers when."


def client_of(service: ServerProcess) -> OpenAI:
    return OpenAI(api_key="any", base_url=f"{service.url}/v1", max_retries=0)


@pytest.fixture(scope="module")
def client(service: ServerProcess) -> Iterator[OpenAI]:
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def speaking_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """The client of a service that speaks English."""
    with service_process(tmp_path_factory.mktemp("preview"), engine="preview") as service:
        with client_of(until_ready(service.until_listening(), within_s=60)) as client:
            yield client


def streamed(client: OpenAI, text: str, name: str, **options: Any) -> tuple[bytes, str]:
    """The body and its media type."""
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=text, response_format=cast(Format, name), **options
    ) as answer:
        return b"".join(answer.iter_bytes()), answer.headers["content-type"]


def test_the_default_format_is_mp3(client: OpenAI, tmp_path: Path) -> None:
    spoken = client.audio.speech.create(model="gpt-4o-mini-tts", voice="nova", input=TEXT)
    spoken.write_to_file(tmp_path / "speech.mp3")
    assert decoded((tmp_path / "speech.mp3").read_bytes(), "mp3")[1] == 24_000
    assert TEXT_MS <= duration_ms(spoken.content, "mp3") <= TEXT_MS + BLOCKS_MS["mp3"]


@pytest.mark.parametrize("name", MEDIA)
def test_every_format_is_streamed_in_full(client: OpenAI, name: str) -> None:
    body, media_type = streamed(client, TEXT, name)
    assert media_type == MEDIA[name]
    assert TEXT_MS <= duration_ms(body, name) <= TEXT_MS + BLOCKS_MS.get(name, 0)


@pytest.fixture(scope="module")
def wav_error(speaking_client: OpenAI) -> float:
    """The recognizer's own error rate."""
    return error_of(speaking_client, "wav")


def error_of(client: OpenAI, name: str) -> float:
    body, _ = streamed(client, SENTENCE, name)
    return word_error_rate(SENTENCE, transcribe(*decoded(body, name)))


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac", "pcm", *OURS])
def test_every_format_has_the_words(speaking_client: OpenAI, wav_error: float, name: str) -> None:
    """Telephone formats of 8 kHz may have a higher error rate."""
    assert error_of(speaking_client, name) <= wav_error + (0.10 if name in OURS else 0.05)


def test_events_carry_the_same_audio(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=TEXT, response_format="pcm", stream_format="sse"
    ) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"]
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == streamed(client, TEXT, "pcm")[0]


def test_every_response_has_a_request_id(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=TEXT
    ) as answer:
        assert answer.request_id is not None


def test_speed_changes_the_duration(client: OpenAI) -> None:
    body, _ = streamed(client, TEXT, "wav", speed=1.5)
    assert duration_ms(body, "wav") == pytest.approx(TEXT_MS / 1.5, rel=0.05)


def test_a_voice_is_added_used_and_deleted(client: OpenAI) -> None:
    words = "A clip of the narrator."
    voice = client.audio.voices.create(
        audio_sample=CLIP, name="Anna", consent="cons_1234", extra_body={"ref_text": words}
    )
    assert (voice.id, voice.name, voice.object, voice.type) == ("anna", "Anna", "audio.voice", "audio_sample")
    listed = client.get("/audio/voices", cast_to=httpx2.Response).json()
    assert {"id": "anna", "name": "Anna"} in listed["voices"]
    spoken = client.audio.speech.create(model="tts-1", voice={"id": voice.id}, input=TEXT)
    assert spoken.content
    deleted = client.audio.voices.delete(voice.id)
    assert (deleted.id, deleted.deleted, deleted.object) == ("anna", True, "audio.voice.deleted")
    with pytest.raises(openai.NotFoundError):
        client.audio.voices.delete(voice.id)


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert {"tts-1", "gpt-4o-mini-tts"} <= set(listed)
    assert [client.models.retrieve(name).id for name in listed] == listed
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.retrieve("no-such-model")
    assert failure.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("wrong", "kind", "param"),
    [
        ({"input": "{foreign}"}, openai.BadRequestError, "input"),
        ({"response_format": "midi"}, openai.BadRequestError, "response_format"),
        ({"speed": 9.0}, openai.BadRequestError, "speed"),
        ({"voice": "nobody"}, openai.NotFoundError, "voice"),
        ({"input": "{fail}"}, openai.InternalServerError, None),
    ],
)
def test_errors_are_the_packages_own(
    client: OpenAI, wrong: dict[str, Any], kind: type[openai.APIStatusError], param: str | None
) -> None:
    with pytest.raises(kind) as failure:
        client.audio.speech.create(**{"model": "tts-1", "voice": "alloy", "input": TEXT, **wrong})
    assert failure.value.param == param
    assert isinstance(failure.value.body, dict)
    assert set(failure.value.body) == {"message", "type", "param", "code"}


def test_a_refused_client_gets_retry_after(client: OpenAI, service: ServerProcess) -> None:
    """Two slow uploads make the service refuse a third."""
    head = b"POST /v1/audio/voices HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\nExpect: 100-continue\r\n"
    form = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with ExitStack() as slow:
        for _ in range(2):
            upload = slow.enter_context(Wire(service.host, service.port))
            upload.send(head + form)
            assert upload.read_head().startswith(b"HTTP/1.1 100")
        with pytest.raises(openai.RateLimitError) as refusal:
            client.audio.voices.create(audio_sample=CLIP, name="Anna", consent="cons_1234")
    assert float(refusal.value.response.headers["retry-after"]) > 0


@pytest.mark.parametrize("form", ["audio", "sse"])
def test_a_disconnect_frees_the_slot(
    client: OpenAI, service: ServerProcess, form: Literal["audio", "sse"]
) -> None:
    host = f"{service.host}:{service.port}"
    with client.audio.speech.with_streaming_response.create(
        model="tts-1",
        voice="alloy",
        input="{slow 0.2}One {endless}",
        response_format="pcm",
        stream_format=form,
    ) as answer:
        heard = answer.iter_bytes()
        assert next(heard)
        assert gauge(host, "utterances_speaking") == 1
    assert falls_silent(host)


def test_an_incomplete_body_is_an_error_for_the_client(client: OpenAI) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        streamed(client, "One {fail}", "pcm")
