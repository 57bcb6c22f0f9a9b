"""Chunks beside their audio: an empty one has no listener, and one that waited for text is not late."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from makima_tts import speaking
from makima_tts.engines import ScriptedEngine
from makima_tts.speech import AudioChunk, SpeechSink, SpeechStream, UtteranceRequest
from tests.api.service import RunningService, running

FRAME = np.full(1920, 0.1, np.float32)
NOTHING = np.zeros(0, np.float32)


class PromptedEngine(ScriptedEngine):
    """Every utterance is spoken before it is asked for: ``chunks``, and then the end."""

    def __init__(self, *chunks: AudioChunk) -> None:
        super().__init__()
        self._chunks = chunks

    def open(self, request: UtteranceRequest) -> SpeechStream:
        sink: SpeechSink
        stream, sink = SpeechStream.create(buffer_samples=24_000)
        for chunk in self._chunks:
            sink.put(chunk)
        sink.end()
        return stream


async def counted(service: RunningService, name: str) -> float:
    async with service.http() as client:
        metrics = (await client.get("/metrics")).text
    return float(metrics.partition(f"\nmakima_tts_{name} ")[2].split()[0])


async def test_no_empty_frame_is_sent_and_nothing_is_measured_by_it(tmp_path: Path) -> None:
    chunks = [AudioChunk(NOTHING, 0), AudioChunk(FRAME, 0), AudioChunk(NOTHING, 0, ends_piece=True)]
    async with running(tmp_path, PromptedEngine(*chunks)) as service:
        async with service.started(events=True) as client:
            await client.send("speak", text="Hello.")
            complete, before = await client.until("complete")
        assert [len(frame) for frame in before if isinstance(frame, bytes)] == [2 * FRAME.size]
        assert [frame["type"] for frame in before if isinstance(frame, dict)] == ["speaking", "sentence"]
        assert (complete["totalChunks"], complete["audioLengthMs"]) == (1, 80)
        assert await counted(service, "lateness_seconds_count") == 1
        assert await counted(service, "ttfa_seconds_count") == 1


@pytest.mark.parametrize("waited", [False, True])
async def test_a_chunk_that_waited_for_text_is_not_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: bool
) -> None:
    minutes = count(step=60)  # at every reading of the clock, the listener has run dry
    monkeypatch.setattr(speaking, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
    chunks = [AudioChunk(FRAME, 0), AudioChunk(FRAME, 0, ends_piece=True, waited_for_text=waited)]
    async with running(tmp_path, PromptedEngine(*chunks)) as service, service.started() as client:
        await client.send("speak", text="Hello.")
        await client.until("complete")
        assert await counted(service, "underruns_total") == (not waited)


async def test_an_utterance_of_nothing_but_its_end_was_nothing_to_speak(tmp_path: Path) -> None:
    async with running(tmp_path, PromptedEngine(AudioChunk(NOTHING, 0, ends_piece=True))) as service:
        await service.until_ready()
        async with service.started() as client:
            await client.send("speak", text="Hello.")
            refusal, before = await client.until("error")
            assert (refusal["code"], refusal["reason"], before) == ("INVALID_TEXT", "nothing_to_say", [])
        async with service.http() as http:
            answer = await http.post("/api/v1/tts", json={"text": "Hello."})
            silent = await http.post("/v1/audio/speech", json={"input": "Hello.", "response_format": "pcm"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_TEXT")
        assert (silent.status_code, silent.content) == (200, bytes(2 * 4800))
        assert await counted(service, "ttfa_seconds_count") == 0
        assert await counted(service, "lateness_seconds_count") == 0
