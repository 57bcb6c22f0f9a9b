"""Word timings over a socket: who asks for them gets them, and nothing else changes."""

import base64
import json
from typing import Any

import pytest

from tests.api.service import RunningService

TEXT = "The **lamps** are lit now, all of them. We go [home](https://a.org) to sleep. And that is all."
SPOKEN = "The lamps are lit now all of them We go home to sleep And that is all"
WORDS = SPOKEN.split()


async def heard(
    service: RunningService, *speaks: dict[str, Any], events: bool = False, **start: Any
) -> tuple[bytes, list[dict[str, Any]], list[str]]:
    """The audio of an utterance, its words, and the types of all messages."""
    async with service.client() as client:
        await client.until("ready")
        await client.send("start", events=events, **start)
        await client.until("started")
        for speak in speaks:
            await client.send("speak", utteranceId="a", **speak)
        complete, before = await client.until("complete", "error")
    assert complete["type"] == "complete"
    messages = [frame for frame in before if isinstance(frame, dict)]
    words = [word for message in messages if message["type"] == "words" for word in message["words"]]
    for word in words:
        assert 0 <= word["startMs"] <= word["endMs"] <= complete["audioLengthMs"]
    audio = b"".join(frame for frame in before if isinstance(frame, bytes))
    return audio, words, [message["type"] for message in messages]


@pytest.mark.parametrize(
    ("start", "speak"),
    [({"timings": "word"}, {}), ({}, {"timings": "word"}), ({"timings": "none"}, {"timings": "word"})],
)
async def test_each_word_is_told_once_in_order_to_clients_that_ask(
    service: RunningService, start: dict[str, Any], speak: dict[str, Any]
) -> None:
    plain, none, types = await heard(service, {"text": TEXT})
    assert (none, types) == ([], [])
    audio, words, types = await heard(service, {"text": TEXT, **speak}, **start)
    assert audio == plain
    assert set(types) == {"words"}
    assert [word["word"] for word in words] == WORDS
    assert [TEXT[word["offset"] :][: word["length"]] for word in words] == WORDS
    starts = [word["startMs"] for word in words]
    assert starts == sorted(starts)
    assert all(word["endMs"] <= start for word, start in zip(words, starts[1:], strict=False))


async def test_an_utterance_can_do_without_and_events_are_the_same_besides(service: RunningService) -> None:
    _, none, plain = await heard(service, {"text": TEXT, "timings": "none"}, timings="word", events=True)
    _, words, types = await heard(service, {"text": TEXT}, timings="word", events=True)
    assert (len(none), len(words)) == (0, len(WORDS))
    assert [type_ for type_ in types if type_ != "words"] == plain
    assert types.index("speaking") < types.index("words")


async def test_positions_count_over_the_whole_live_text(service: RunningService) -> None:
    tokens = [TEXT[start : start + 3] for start in range(0, len(TEXT), 3)]
    live = [{"text": token, "final": False} for token in tokens]
    _, words, _ = await heard(service, *live, {"text": ""}, timings="word")
    assert [TEXT[word["offset"] :][: word["length"]] for word in words] == WORDS


async def test_speed_shortens_the_times(service: RunningService) -> None:
    _, words, _ = await heard(service, {"text": TEXT}, timings="word", speed=2.0)
    assert [word["word"] for word in words] == WORDS


@pytest.mark.parametrize(
    ("path", "body", "form"),
    [
        ("/v1/audio/speech", {"input": TEXT, "response_format": "pcm"}, "stream_format"),
        ("/api/v1/tts", {"text": TEXT, "format": "pcm"}, "streamFormat"),
    ],
)
async def test_events_over_http_hold_the_words_and_the_audio_of_a_plain_body(
    service: RunningService, path: str, body: dict[str, Any], form: str
) -> None:
    asking = {**body, "timings": "word"}
    async with service.http() as http:
        plain = await http.post(path, json=body)
        answer = await http.post(path, json={**asking, form: "sse"})
        refused = await http.post(path, json=asking)
    events = [json.loads(line[5:]) for line in answer.text.split("\n") if line.startswith("data:")]
    assert events[0]["type"] == "speech.audio.words"
    words = [word for event in events for word in event.get("words", ())]
    assert [TEXT[word["offset"] :][: word["length"]] for word in words] == WORDS
    duration_ms = len(plain.content) / 48
    assert all(0 <= word["start_ms"] <= word["end_ms"] <= duration_ms for word in words)
    audio = b"".join(base64.b64decode(event["audio"]) for event in events if "audio" in event)
    assert audio == plain.content
    assert refused.status_code == 400
    assert "sse" in refused.text
