"""Conversations on the wire as lines of JSON, so that they can be shown, and played again.

In: a running service and a conversation. Out: the conversation as it went this time. Does not know: which
conversations there are.

After a first line with the connection's options, a line is ``{"client": message}``, ``{"server": message}``,
``{"audioBytes": n}`` for binary frames that follow each other, or ``{"close": code}``. Figures that differ
from run to run stand as 0.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.api.service import Client, RunningService

CONVERSATIONS = Path(__file__).parents[2] / "docs" / "conversations"
Line = dict[str, Any]
_VARYING = ("sessionId", "durationMs", "ttfaMs", "queueMs", "rtf")


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, lines: Sequence[Line]) -> None:
    path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


async def play(service: RunningService, lines: Sequence[Line]) -> list[Line]:
    """Say what the client says in ``lines``; it waits until the server has said what it says in between."""
    head, *rest = lines
    async with service.client(subprotocols=head.get("subprotocols")) as client:
        return [head, *[await _step(client, line) for line in rest]]


async def _step(client: Client, line: Line) -> Line:
    if "client" in line:
        await client.socket.send(json.dumps(line["client"]))
        return line
    if "audioBytes" in line:
        return {"audioBytes": await _audio(client, line["audioBytes"])}
    try:
        frame = await client.next()
    except ConnectionClosed:
        return {"close": client.socket.close_code}
    return {"server": _steady(frame)} if isinstance(frame, dict) else {"audioBytes": len(frame)}


async def _audio(client: Client, wanted_bytes: int) -> int:
    got_bytes = 0
    while got_bytes < wanted_bytes and isinstance(frame := await client.next(), bytes):
        got_bytes += len(frame)
    return got_bytes


def _steady(message: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run, or is too long to show."""
    shown = {name: 0 if name in _VARYING else value for name, value in message.items()}
    if data := message.get("data"):
        shown["data"] = f"({len(data)} characters of base64)"
    return shown
