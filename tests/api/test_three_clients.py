"""The three kinds of client, each exactly as it is, against the real service."""

import asyncio
import json

import numpy as np
from websockets.asyncio.client import connect

from tests.api.service import RunningService

# The spec client's message types are a closed enumeration: anything else is a crash.
BASE_SET = {"ready", "started", "audioChunk", "complete", "audio_end", "error", "stopped", "pong"}


async def test_spec_client_speaks_from_ready_to_stopped(service: RunningService) -> None:
    seen = []
    async with connect(f"ws{service.url.removeprefix('http')}/api/v1/speak") as socket:
        ready = json.loads(await socket.recv())
        assert ready["type"] == "ready"
        assert ready["protocolVersion"] == 1
        optional = dict.fromkeys(["authToken", "contractId"])
        await socket.send(
            json.dumps(
                {
                    **{"type": "start", "sampleRate": 24000, "encoding": "pcm16", "voice": "makima"},
                    **{"language": "English", **optional},
                }
            )
        )
        started = json.loads(await socket.recv())
        assert started["type"] == "started"
        # makima has no clip here: the next in line speaks, and the answer says so.
        assert started["voice"] == "narrator"
        assert "makima" in started["warning"]
        nothing = dict.fromkeys(["priority", "utteranceId", "voice", "language", "seed"])
        await socket.send(json.dumps({"type": "speak", "text": "Good evening to you all.", **nothing}))
        audio_bytes = 0
        while True:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                audio_bytes += len(frame)
                continue
            message = json.loads(frame)
            seen.append(message["type"])
            if message["type"] == "complete":
                assert message["audioLengthMs"] == audio_bytes // 48
                await socket.send(json.dumps({"type": "stop", "reason": None}))
            if message["type"] == "stopped":
                break
        await socket.wait_closed()
        assert socket.close_code == 1000
    assert seen == ["complete", "stopped"]
    assert set(seen) <= BASE_SET


async def test_page_client_speaks_without_start_and_cancels(service: RunningService) -> None:
    async with service.client() as page:
        await page.send("speak", text="Straight after open, no start.")
        _, before = await page.until("audio_end")
        audio = b"".join(frame for frame in before if isinstance(frame, bytes))
        assert len(audio) % 3840 == 0
        assert np.abs(np.frombuffer(audio, "<i2")).max() > 1000
        await page.send("speak", text="This will {endless} never end.")
        while not isinstance(await page.next(), bytes):
            pass
        await page.send("cancel")
        end, before = await page.until("audio_end")
        assert end == {"type": "audio_end", "sample_rate": 24000, "format": "pcm_s16le", "channels": 1}
        assert all(isinstance(frame, bytes) for frame in before), "only audio_end follows a cancel"
        await page.send("stop")
        assert await page.rest() == [{"type": "stopped"}]
        assert page.socket.close_code == 1000


async def test_newer_client_hears_the_extended_set(service: RunningService) -> None:
    async with service.client(subprotocols=["makima.tts.v1"]) as client:
        assert client.socket.subprotocol == "makima.tts.v1"
        await client.send("speak", text="The first sentence is here. The second one follows it.")
        complete, before = await client.until("complete")
        types = [frame["type"] for frame in before if isinstance(frame, dict)]
        assert types == ["ready", "speaking", "sentence", "sentence"]
        sentences = [frame for frame in before if isinstance(frame, dict) and frame["type"] == "sentence"]
        assert [one["text"] for one in sentences] == [
            "The first sentence is here.",
            "The second one follows it.",
        ]
        assert sentences[0]["endMs"] == sentences[1]["startMs"]
        assert sentences[1]["endMs"] == complete["audioLengthMs"]


async def test_clients_of_every_kind_speak_at_once_and_alike(service: RunningService) -> None:
    async def speak(number: int) -> bytes:
        async with service.client() as client:
            await client.send("speak", text=f"Number {number % 3} says the same.", seed=number % 3)
            _, before = await client.until("audio_end")
            return b"".join(frame for frame in before if isinstance(frame, bytes))

    spoken = await asyncio.gather(*(speak(number) for number in range(12)))
    assert len(set(spoken)) == 3
