"""vLLM-Omni's WebSocket: what its clients send and read, over a real socket."""

import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.api.conftest import Run
from tests.api.service import Client, RunningService
from tests.sentences import WORDLESS

# The scripted engine speaks 60 ms of each character, in frames of 80 ms.
FRAME_BYTES = 3840
LIVE = {"response_format": "pcm", "stream_audio": True, "split_granularity": "sentence"}


@asynccontextmanager
async def client_of(service: RunningService, **config: Any) -> AsyncIterator[Client]:
    url = service.socket_url.replace("/api/v1/speak", "/v1/audio/speech/stream")
    async with connect(url, close_timeout=1) as socket:
        client = Client(socket)
        if config:
            await client.send("session.config", **config)
        yield client


async def flush(client: Client, *texts: str) -> list[dict[str, Any] | bytes]:
    """Everything up to session.done."""
    for text in texts:
        await client.send("input.text", text=text)
    await client.send("input.done")
    done, before = await client.until("session.done")
    return [*before, done]


def joined(frames: list[dict[str, Any] | bytes]) -> list[dict[str, Any] | int]:
    """Messages, and how many bytes of audio stand between them."""
    seen: list[dict[str, Any] | int] = []
    for frame in frames:
        if isinstance(frame, dict):
            seen.append(frame)
        elif seen and isinstance(seen[-1], int):
            seen[-1] += len(frame)
        else:
            seen.append(len(frame))
    return seen


def place(sentence: int, utterance: int = 0) -> dict[str, int]:
    return {"utterance_index": utterance, "sentence_index": sentence}


async def test_live_text_is_heard_sentence_by_sentence_while_it_is_written(service: RunningService) -> None:
    config = {"response_format": "pcm", "stream_audio": True, "split_granularity": "sentence"}
    async with client_of(service, model="any", voice="alloy", **config) as client:
        await client.send("input.text", text="It **was** he")
        await client.send("input.text", text="re. It is no")
        done, before = await client.until("audio.done")
        shape = {"format": "pcm", "sample_rate": 24000, "channels": 1}
        assert joined([*before, done]) == [
            {"type": "audio.start", **place(0), "sentence_text": "It was here.", **shape},
            9 * FRAME_BYTES,
            {"type": "audio.done", **place(0), "total_bytes": 9 * FRAME_BYTES, "error": False},
        ]
        frames = await flush(client, "w gone.")
        assert joined(frames) == [
            {"type": "audio.start", **place(1), "sentence_text": "It is now gone.", **shape},
            12 * FRAME_BYTES,
            {"type": "audio.done", **place(1), "total_bytes": 12 * FRAME_BYTES, "error": False},
            {"type": "session.done", "utterance_index": 0, "total_sentences": 2},
        ]


async def test_a_finished_sentence_is_spoken_while_its_writer_pauses(run: Run) -> None:
    async with run(text_idle_s=0.02) as service, client_of(service, **LIVE) as client:
        await client.send("input.text", text="It was here. Then ")
        start, _ = await client.until("audio.start")
        assert start["sentence_text"] == "It was here."
        await client.until("audio.done")


async def test_by_default_a_flush_is_one_wav_file_and_the_connection_goes_on(service: RunningService) -> None:
    async with client_of(service, language="en") as client:
        for utterance in range(2):
            start, audio, done, end = await flush(client, "It was here. ", "It is now gone.")
            assert isinstance(start, dict)
            assert (start["sentence_text"], start["format"]) == ("It was here. It is now gone.", "wav")
            assert isinstance(audio, bytes)
            with wave.open(io.BytesIO(audio)) as file:
                assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (24000, 1, 21 * 1920)
            assert done == {
                "type": "audio.done",
                **place(0, utterance),
                "total_bytes": len(audio),
                "error": False,
            }
            assert end == {"type": "session.done", "utterance_index": utterance, "total_sentences": 1}
        await client.send("session.close")
        assert await client.close_code() == 1000


async def test_nothing_is_lost_of_what_is_stretched(service: RunningService) -> None:
    config = {"response_format": "pcm", "stream_audio": True, "split_granularity": "clause", "speed": 0.5}
    async with client_of(service, **config) as client:
        frames = joined(await flush(client, "It was here. It is now gone."))
    assert [frame["type"] for frame in frames if isinstance(frame, dict)] == [
        *("audio.start", "audio.done", "audio.start", "audio.done", "session.done")
    ]
    heard = sum(frame for frame in frames if isinstance(frame, int))
    assert heard == pytest.approx(2 * 21 * FRAME_BYTES, rel=0.02)
    assert heard == sum(frame.get("total_bytes", 0) for frame in frames if isinstance(frame, dict))


async def test_the_next_flush_may_be_written_while_one_is_spoken(service: RunningService) -> None:
    async with client_of(service, response_format="pcm") as client:
        for text in ("The first one.", "", "The third one."):
            await client.send("input.text", text=text)
            await client.send("input.done")
        ends = [(await client.until("session.done"))[0] for _ in range(3)]
    assert [(end["utterance_index"], end["total_sentences"]) for end in ends] == [(0, 1), (1, 0), (2, 1)]


async def test_what_cannot_be_spoken_is_said_and_the_connection_goes_on(service: RunningService) -> None:
    async with client_of(service, response_format="pcm", stream_audio=True) as client:
        _, sound, error, done, _ = joined(await flush(client, "A {fail} word."))
        assert isinstance(error, dict)
        assert error.pop("message")
        assert error == {
            "type": "error",
            "code": "SYNTHESIS_ERROR",
            "partial_audio": True,
            "action": "discard",
        }
        assert done == {"type": "audio.done", **place(0), "total_bytes": sound, "error": True}
        assert joined(await flush(client, "Well again."))[-1] == {
            "type": "session.done",
            "utterance_index": 1,
            "total_sentences": 1,
        }


@pytest.mark.parametrize("granularity", ["none", "sentence"])
@pytest.mark.parametrize("stream_audio", [False, True])
async def test_a_flush_without_words_is_one_silent_sentence_in_its_turn(
    service: RunningService, granularity: str, *, stream_audio: bool
) -> None:
    """Also while another flush is spoken: audio of two flushes is never mixed."""
    texts = ["The first one.", *(text for text in WORDLESS if text), "The last one."]
    config = {"split_granularity": granularity, "stream_audio": stream_audio}
    async with client_of(service, response_format="pcm", **config) as client:
        for text in texts:
            await client.send("input.text", text=text)
            await client.send("input.done")
        flushes = [
            joined([*before, done]) for done, before in [await client.until("session.done") for _ in texts]
        ]
    for index, (start, audio, done, end) in enumerate(flushes):
        assert isinstance(start, dict)
        assert (start["type"], start["utterance_index"]) == ("audio.start", index)
        assert audio == 9600 if 0 < index < len(texts) - 1 else isinstance(audio, int)
        assert done == {"type": "audio.done", **place(0, index), "total_bytes": audio, "error": False}
        assert end == {"type": "session.done", "utterance_index": index, "total_sentences": 1}


async def test_a_flush_whose_writer_pauses_before_its_first_word_is_spoken(run: Run) -> None:
    async with run(text_stall_s=0.05) as service, client_of(service, **LIVE) as client:
        await client.send("input.text", text="... ")
        await service.until(lambda: "INVALID_TEXT" in service.service.metrics.render().decode())
        spoken = joined(await flush(client, "Well."))
    assert [frame["type"] for frame in spoken if isinstance(frame, dict)] == [
        *("audio.start", "audio.done", "session.done")
    ]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"response_format": "mp3"}, "response_format"),
        ({"stream_audio": True}, "needs response_format pcm"),
        ({"ref_audio": "data:"}, "POST /v1/audio/speech"),
        ({"ref_text": "Hello."}, "POST /v1/audio/voices"),
        ({"x_vector_only_mode": True}, "POST /v1/audio/voices"),
        ({"speaker_embedding": [0.5]}, "POST /v1/audio/voices"),
        ({"speed": 4.0}, "speed"),
        ({"task_type": "VoiceDesign"}, "task_type"),
        ({"word_timestamps": True}, "word_timestamps"),
        ({"language": "Klingon"}, "language"),
    ],
)
async def test_a_configuration_that_is_not_to_be_had_is_refused(
    service: RunningService, config: dict[str, Any], says: str
) -> None:
    async with client_of(service, **config) as client:
        (error,) = await client.rest()
        assert isinstance(error, dict)
        assert error["type"] == "error"
        assert says in error["message"]
        assert client.socket.close_code == 1000


@pytest.mark.parametrize("first", ['{"type":"input.done"}', "[]", "{", '{"type":"hello"}', b"\0"])
async def test_the_first_message_must_configure(service: RunningService, first: str | bytes) -> None:
    async with client_of(service) as client:
        await client.socket.send(first)
        if isinstance(first, bytes):
            await client.send("session.close")
        (error,) = await client.rest()
        assert isinstance(error, dict)
        assert error["type"] == "error"


async def test_a_voice_that_is_not_there_is_an_error(service: RunningService) -> None:
    async with client_of(service, voice="nobody") as client:
        error, done = await flush(client, "Hello there.")
        assert isinstance(error, dict)
        assert isinstance(done, dict)
        assert (error["type"], error["code"], done["total_sentences"]) == ("error", "VOICE_NOT_FOUND", 0)


async def test_a_disconnect_silences_the_engine(service: RunningService) -> None:
    config = {"response_format": "pcm", "stream_audio": True, "split_granularity": "sentence"}
    async with client_of(service, **config) as client:
        await client.send("input.text", text="On and on {endless} it goes. And then some")
        while not isinstance(await client.next(), bytes):
            pass
    await service.until_idle()


async def test_audio_as_one_is_bounded(service: RunningService) -> None:
    async with client_of(service, response_format="pcm") as client:
        frames = await flush(client, *["word " * 1000] * 2)
        assert [frame["type"] for frame in frames if isinstance(frame, dict)] == ["error", "session.done"]


async def test_text_that_is_to_be_one_is_refused_before_its_end_is_written(service: RunningService) -> None:
    async with client_of(service, response_format="pcm", stream_audio=True) as client:
        for _ in range(5):
            await client.send("input.text", text="word " * 1000)
        error = await client.next()
        assert isinstance(error, dict)
        assert "20000 characters" in error["message"]
        assert [frame["type"] for frame in await flush(client) if isinstance(frame, dict)] == ["session.done"]


async def test_flushes_that_wait_are_bounded_empty_ones_too(service: RunningService) -> None:
    config = {"response_format": "pcm", "stream_audio": True, "split_granularity": "sentence"}
    async with client_of(service, **config) as client:
        await client.send("input.text", text="On and on {endless} it goes. And then some")
        for _ in range(150):
            await client.send("input.done")
        assert await client.close_code() == 1008


async def test_it_waits_while_the_model_loads_and_is_told_when_it_idles(run: Run) -> None:
    async with run(idle_timeout_s=0.2) as service, client_of(service, response_format="pcm") as client:
        assert joined(await flush(client, "Hello there."))[-1] == {
            "type": "session.done",
            "utterance_index": 0,
            "total_sentences": 1,
        }
        (error,) = await client.rest()
        assert isinstance(error, dict)
        assert "Idle" in json.dumps(error)
