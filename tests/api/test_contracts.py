"""Sessions that share a contract are one conversation, at the level of real sockets."""

import asyncio
from typing import Any

from tests.api.service import Client, RunningService

# A chunk every 80 ms, for ever.
SLOW = "{slow 1}{endless}"


class Listener:
    """Reads a session to the message that ends its utterance, and counts the chunks."""

    def __init__(self, client: Client) -> None:
        self.chunks = 0
        self.hears = asyncio.Event()
        self.ending = asyncio.create_task(self._listen(client))

    async def _listen(self, client: Client) -> dict[str, Any]:
        while True:
            frame = await client.next()
            if isinstance(frame, bytes):
                self.chunks += 1
                self.hears.set()
            elif frame["type"] in {"complete", "error"}:
                return frame


async def test_an_interrupt_is_silence_within_one_chunk_in_every_session(service: RunningService) -> None:
    async with service.started(contractId="c") as one, service.started(contractId="c") as two:
        listeners = []
        for client in (one, two):
            await client.send("speak", text=SLOW)
            listeners.append(Listener(client))
            await listeners[-1].hears.wait()
        async with service.http() as http:
            answer = await http.post("/api/v1/contracts/c/interrupt")
        heard = [listener.chunks for listener in listeners]
        assert answer.json() == {"interrupted": 2}
        for listener, before in zip(listeners, heard, strict=True):
            assert (await listener.ending)["code"] == "CANCELLED"
            assert listener.chunks <= before + 1


async def test_an_urgent_utterance_goes_before_those_that_wait_and_after_the_one_that_speaks(
    service: RunningService,
) -> None:
    async with service.started(contractId="c") as client:
        await client.send("speak", text="{slow 1}Spoken.", utteranceId="speaking")
        while not isinstance(await client.next(), bytes):
            pass
        for name, priority in (("later", "low"), ("next", "normal"), ("urgent", "high")):
            await client.send("speak", text="Hello.", utteranceId=name, priority=priority)
        order = [(await client.until("complete"))[0]["utteranceId"] for _ in range(4)]
        assert order == ["speaking", "urgent", "next", "later"]


async def test_after_an_interrupt_the_answer_is_what_is_heard_next(service: RunningService) -> None:
    """A client that interrupts expects the answer in the session that was silenced."""
    async with service.started(contractId="c") as client:
        for text in (SLOW, "Queued."):
            await client.send("speak", text=text)
        while not isinstance(await client.next(), bytes):
            pass
        async with service.http() as http:
            assert (await http.post("/api/v1/contracts/c/interrupt")).json() == {"interrupted": 2}
        await client.send("speak", text="Yes?", utteranceId="answer", priority="high")
        endings = [(await client.until("complete", "error"))[0] for _ in range(3)]
        assert [ending["type"] for ending in endings] == ["error", "error", "complete"]
        assert endings[-1]["utteranceId"] == "answer"
