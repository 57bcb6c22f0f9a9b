"""``makima-tts wyoming`` as a process, and the wyoming package's own client of it.

In: the address of a service. Out: events. Does not know: what is tested.
"""

import asyncio
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from wyoming.audio import AudioChunk
from wyoming.client import AsyncTcpClient
from wyoming.event import Event

from tests.transport.processes import ServerProcess

PATIENCE_S = 20.0


def bridge_command(service_url: str) -> list[str]:
    command = ["wyoming", "--uri", "tcp://127.0.0.1:0", "--server", service_url]
    return [sys.executable, "-m", "makima_tts", *command]


@contextmanager
def bridge_to(service_url: str) -> Iterator[int]:
    """The port of a bridge to the service there."""
    with ServerProcess(bridge_command(service_url)) as process:
        said = process.expect("tcp://", anywhere=True)
        yield int(said.strip().rpartition(":")[2])
        assert "Traceback" not in process.complaints


@asynccontextmanager
async def client_of(port: int) -> AsyncIterator[AsyncTcpClient]:
    async with asyncio.timeout(PATIENCE_S), AsyncTcpClient("127.0.0.1", port) as client:
        yield client


async def until(client: AsyncTcpClient, last: str) -> list[Event]:
    """The events up to the first of this type."""
    events: list[Event] = []
    while not events or events[-1].type != last:
        event = await client.read_event()
        assert event is not None, [event.type for event in events]
        events.append(event)
    return events


def sound_in(events: list[Event]) -> bytes:
    return b"".join(AudioChunk.from_event(event).audio for event in events if AudioChunk.is_type(event.type))


def utterances_speaking(service: ServerProcess) -> float:
    url = f"http://{service.host}:{service.port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        found = re.search(r"^makima_tts_utterances_speaking (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])
