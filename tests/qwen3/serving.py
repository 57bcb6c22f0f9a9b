"""The real server with a small Qwen3-TTS, and clients of it.

In: a server process. Out: sessions, sound, answers over HTTP. Does not know: what is tested.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import connect

from makima_tts.client import Speech, SpeechClient
from makima_tts.protocol import Start
from tests.api.service import Client
from tests.checkpoints.models import ENDING, checkpoint_folder
from tests.client.fake_service import heard_of
from tests.transport.processes import ServerProcess
from tests.voices.clips import TRANSCRIPT, good_clip

Pcm16 = npt.NDArray[np.int16]


def qwen3_settings(**settings: object) -> dict[str, Any]:
    """A checkpoint that is small, and whose speech ends with its text."""
    folder = checkpoint_folder(ENDING)
    chosen = {"engine": "qwen3", "model_id": folder, "device": "cpu", "offline": True}
    return {**chosen, "admission": "slots", **settings}  # however slow the machine is


def socket_url(server: ServerProcess) -> str:
    return f"ws://{server.host}:{server.port}/api/v1/speak"


@asynccontextmanager
async def session(server: ServerProcess, start: Start | None = None) -> AsyncIterator[SpeechClient]:
    """A client of ours, once the server is ready."""
    async with SpeechClient.connect(socket_url(server), start) as client:
        yield client


@asynccontextmanager
async def plain_session(server: ServerProcess) -> AsyncIterator[Client]:
    """A socket as the page opens it: nothing is sent yet, and nothing received."""
    async with connect(socket_url(server), close_timeout=1) as socket:
        yield Client(socket)


async def sound_of(speech: Speech) -> Pcm16:
    """The whole utterance: int16 [samples]."""
    return samples(b"".join(await heard_of(speech)))


def samples(pcm: bytes) -> Pcm16:
    return np.frombuffer(pcm, "<i2")


def same_sound(first: Pcm16, second: Pcm16) -> bool:
    """Equal up to one step of 16 bits: sums in another order round differently."""
    if first.shape != second.shape:
        return False
    return bool(np.abs(first.astype(np.int32) - second).max(initial=0) <= 1)


def chunks_of_text(text: str) -> Iterator[str]:
    """Parts of the text, cut anywhere, as a language model's tokens are."""
    sizes = cycle((1, 3, 2, 7, 5))
    start = 0
    while start < len(text):
        size = next(sizes)
        yield text[start : start + size]
        start += size


async def get(server: ServerProcess, path: str) -> httpx.Response:
    async with _http(server) as client:
        return await client.get(path)


async def upload(server: ServerProcess, name: str, *, pitch_hz: float = 140.0) -> dict[str, Any]:
    """Add a voice; returns the server's answer."""
    async with _http(server) as client:
        answer = await client.post(
            "/api/v1/voices",
            files={"audio": ("clip.wav", good_clip(pitch_hz), "audio/wav")},
            data={"name": name, "transcript": TRANSCRIPT},
        )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def delete_voice(server: ServerProcess, voice_id: str) -> int:
    async with _http(server) as client:
        return (await client.delete(f"/api/v1/voices/{voice_id}")).status_code


async def counted(server: ServerProcess, name: str) -> float:
    """A figure of /metrics."""
    metrics = (await get(server, "/metrics")).text
    found = re.search(rf"^makima_tts_{name} (\S+)$", metrics, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def _http(server: ServerProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, timeout=20.0, trust_env=False)
