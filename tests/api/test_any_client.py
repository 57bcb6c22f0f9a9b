"""The laws of a conversation over a real socket, whatever a client does, in at most fifty conversations."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import given, settings, strategies as st
from websockets.exceptions import ConnectionClosed

from tests.api.service import Client, RunningService, running

NAMES = ("a", "b", "c")
TEXTS = (
    "Hello there, my friend. ",
    "And ",
    "a",
    "It breaks {fail} here. ",
    "It stalls {stall} here. ",
    "...",
)

_speak = st.fixed_dictionaries(
    {"type": st.just("speak"), "text": st.sampled_from(TEXTS), "utteranceId": st.sampled_from(NAMES)},
    optional={"final": st.booleans(), "priority": st.sampled_from(["low", "normal", "high"])},
)
_other = st.one_of(
    st.fixed_dictionaries({"type": st.just("cancel")}, optional={"utteranceId": st.sampled_from(NAMES)}),
    st.fixed_dictionaries({"type": st.just("flush"), "utteranceId": st.sampled_from(NAMES)}),
    st.fixed_dictionaries({"type": st.just("ping"), "id": st.just("x")}),
    st.fixed_dictionaries({"type": st.just("start"), "transport": st.just("json")}),
    st.just({"type": "interrupt"}),  # told to the service, not sent
)
ACTIONS = st.lists(st.tuples(_speak | _speak | _other, st.booleans()), min_size=1, max_size=14)


class Witness:
    """Reads everything the server says, and holds it to the laws as it comes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.terminal: set[str] = set()
        self.speaking: str | None = None
        self.audio_bytes = 0
        self.said: list[str] = []

    async def read(self) -> None:
        try:
            while True:
                frame = await self.client.next()
                if isinstance(frame, bytes):
                    self.hear(frame)
                else:
                    self.note(frame)
        except ConnectionClosed:
            return

    def hear(self, audio: bytes) -> None:
        assert self.speaking is not None, "audio that no utterance announced"
        assert len(audio) % 2 == 0
        self.audio_bytes += len(audio)

    def note(self, message: dict[str, Any]) -> None:
        self.said.append(message["type"])
        name = message.get("utteranceId")
        if message["type"] == "speaking":
            assert self.speaking is None, "two utterances at once"
            self.speaking, self.audio_bytes = name, 0
        if message["type"] == "audioChunk":
            assert name == self.speaking
        if message["type"] == "complete" or (message["type"] == "error" and name == self.speaking):
            assert name not in self.terminal, "two terminal messages"
            self.terminal.add(str(name))
            if message["type"] == "complete" and "audioChunk" not in self.said:
                assert self.audio_bytes == message["audioLengthMs"] * 48
            self.speaking = None


async def converse(service: RunningService, actions: list[tuple[dict[str, Any], bool]]) -> list[str]:
    async with service.client(subprotocols=["makima.tts.v1"]) as client:
        witness = Witness(client)
        reading = asyncio.create_task(witness.read())
        await client.send("start", contractId="c")
        for message, pause in actions:
            if message["type"] == "interrupt":
                service.service.interrupt_contract("c")
            else:
                await client.socket.send(json.dumps(message))
            if pause:
                await asyncio.sleep(0)
        await client.send("stop")
        await reading
    await service.until_idle()
    return witness.said


def test_any_client_is_held_to_the_laws_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """All are clients of one service, one after the other."""
    with asyncio.Runner() as loop, ExitStack() as stack:
        serving = running(tmp_path)
        service = loop.run(serving.__aenter__())
        stack.callback(lambda: loop.run(serving.__aexit__(None, None, None)))
        loop.run(service.until_ready())

        @settings(max_examples=40, derandomize=True, deadline=None)
        @given(actions=ACTIONS)
        def any_client(actions: list[tuple[dict[str, Any], bool]]) -> None:
            said = loop.run(converse(service, actions))
            assert said[0] == "ready"
            assert said[-1] == "stopped"
            loop.run(asyncio.wait_for(service.service.drained(), 5))

        any_client()
