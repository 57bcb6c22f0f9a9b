"""What happens to those who speak when others come, go or send a voice; and how soon a place is free.

In: a server that runs. Out: milliseconds, and what listeners met. Does not know: how the server does it.
"""

import asyncio
import time
from collections.abc import Mapping
from itertools import count
from statistics import median

import httpx

from bench import spoken
from bench.hearing import Heard, listen, occupy
from bench.running_server import Server
from bench.voices import clip_file
from makima_tts.client import ServiceError, Speech, SpeechClient
from makima_tts.protocol import Start

_RETRY_S = 0.005
# The same speech each time: how much silence it begins with, and so its first sound, is a matter of luck.
_SEED = 7
_PATIENCE_S = 600.0
_number = count()


async def place_taken_ms(url: str, text: str, *, disconnects: bool) -> float:
    """Somebody who has the only place goes; until somebody else is heard, beyond what that takes anyhow."""
    async with SpeechClient.connect(url, Start()) as waiting:
        await _first_sound_s(waiting, text)  # what happens only once has happened
        alone_s = await _first_sound_s(waiting, text)
        async with SpeechClient.connect(url, Start()) as speaking:
            speech = speaking.speak(text)
            await anext(speech)
            began_s = time.monotonic()
            if disconnects:
                await speaking.close()
            else:
                await speech.cancel()
            await _first_sound_s(waiting, text)
            return (time.monotonic() - began_s - alone_s) * 1e3


async def _first_sound_s(client: SpeechClient, text: str) -> float:
    """Asks again until it is not refused; then says no more."""
    began_s = time.monotonic()
    while True:
        speech = client.speak(text, seed=_SEED)
        try:
            await anext(speech)
        except ServiceError as refusal:
            if refusal.code != "RATE_LIMITED":
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            heard_s = time.monotonic() - began_s
            await _end(speech)
            return heard_s


async def _end(speech: Speech) -> None:
    await speech.cancel()
    try:
        async for _chunk in speech:
            pass
    except ServiceError:
        return


async def company(
    server: Server, start: Start, texts: Mapping[str, str], streams: int, listen_s: float
) -> dict[str, list[Heard]]:
    """So many speak: alone; while another joins them; while a voice is encoded."""

    async def speaking() -> list[Heard]:
        return (await occupy(server.url, start, streams, listen_s, texts=texts))[0]

    async def joining() -> list[Heard]:
        await asyncio.sleep(listen_s / 2)
        return [await listen(server.url, start, next(iter(texts)), texts)]

    alone = await speaking()
    together, joined = await asyncio.gather(speaking(), joining())
    beside, _ = await asyncio.gather(speaking(), _send_voice(server))
    return {"alone": alone, "another joins": [*together, *joined], "a voice is encoded": beside}


async def _send_voice(server: Server) -> None:
    """One that was never encoded before."""
    number = next(_number)
    async with httpx.AsyncClient(base_url=server.address, timeout=_PATIENCE_S) as client:
        answer = await client.post(
            "/api/v1/voices",
            files={"audio": ("clip.wav", clip_file(), "audio/wav")},
            data={"name": f"sent {number}", "transcript": f"{spoken.TRANSCRIPT} {number}"},
        )
        answer.raise_for_status()


def gaps(heard: Mapping[str, list[Heard]], streams: int) -> dict[str, float]:
    """Figures: underruns of each, and the longest gap of all."""
    found: dict[str, float] = {"streams beside whom others come": streams}
    for when, listeners in heard.items():
        late_ms = [1e3 * lateness_s for each in listeners for lateness_s in each.lateness_s]
        found[f"underruns, {when}"] = sum(each.underruns for each in listeners)
        found[f"longest gap, {when}, ms"] = max(late_ms, default=0.0)
    return found


async def places_taken_ms(url: str, text: str, runs: int) -> dict[str, float]:
    """Figures of a server with one place."""
    cancels = [await place_taken_ms(url, text, disconnects=False) for _ in range(runs)]
    disconnects = [await place_taken_ms(url, text, disconnects=True) for _ in range(runs)]
    return {
        "cancel to another's turn, ms": median(cancels),
        "disconnect to another's turn, ms": median(disconnects),
    }
