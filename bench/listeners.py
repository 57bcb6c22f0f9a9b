"""Listeners in a process of their own, so that what they cost is not the server's.

In: a URL, how many, and for how many seconds to listen; a line on stdin for each step: connect, listen, go.
Out: a line when that can be had: ``up``, ``connected``, and the milliseconds from each chunk's making to its
arrival as JSON. Does not know: what they hear.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack

from bench.stamps import read_stamp
from makima_tts.client import SpeechClient
from makima_tts.protocol import Start

# Connections are opened this many at a time; more would measure the accept queue.
AT_ONCE = 16
# Sessions begin over this long, so that their chunks are spread as independent speakers' are.
SPREAD_S = 1.0
WARM_UP_S = 2.0


async def connected(stack: AsyncExitStack, url: str, count: int) -> list[SpeechClient]:
    """Sessions that have started, closed with the stack."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect() -> SpeechClient:
        async with gate:
            return await stack.enter_async_context(SpeechClient.connect(url, Start(encoding="pcm32f")))

    return await asyncio.gather(*(connect() for _ in range(count)))


async def listen(client: SpeechClient, delay_s: float, from_s: float, until_s: float) -> list[float]:
    """The milliseconds that each chunk took which arrived between two times of ``time.monotonic``."""
    await asyncio.sleep(delay_s)
    speech = client.speak("Go on.")
    took_ms: list[float] = []
    async for chunk in speech:
        if chunk.received_s >= until_s:
            await speech.cancel()
            return took_ms
        if chunk.received_s >= from_s:
            took_ms.append(chunk.received_s * 1e3 - read_stamp(chunk.pcm) / 1e6)
    return took_ms


async def next_step(done: str) -> None:
    print(done, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def main(url: str, count: int, seconds: float) -> None:
    """Takes the three steps."""
    async with AsyncExitStack() as stack:
        await next_step("up")
        clients = await connected(stack, url, count)
        await next_step("connected")
        from_s = time.monotonic() + SPREAD_S + WARM_UP_S
        listening = (
            listen(client, SPREAD_S * number / count, from_s, from_s + seconds)
            for number, client in enumerate(clients)
        )
        took_ms = [ms for each_ms in await asyncio.gather(*listening) for ms in each_ms]
        await next_step(json.dumps(took_ms))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
