"""Writes docs/conversations/*.jsonl: conversations with the real service, for the docs and for the tests.

In: the messages of each client, in order. Out: the files. Does not know: the replies of the server, which are
recorded. Run by `make docs`; a test replays every file against the service and expects the same.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from tests.api.recording import CONVERSATIONS, Line, play, write
from tests.api.service import running

ANSWER: Line = {"server": ...}
CLOSE: Line = {"close": ...}


def client(type_: str, **fields: Any) -> Line:
    return {"client": {"type": type_, **fields}}


def audio(frames: int) -> Line:
    """This many frames of the scripted engine: 60 ms a character, each piece rounded up to 80 ms."""
    return {"audioBytes": frames * 3840}


HELLO = "Hello there."
STALLING = "Wait a moment {stall} please."

SCRIPTS: dict[str, list[Line]] = {
    "01-spec-client": [
        {"title": "A client that sends `start`: from `ready` to `stopped`"},
        ANSWER,
        client("start", sampleRate=24000, encoding="pcm16", voice="makima", authToken=None),
        ANSWER,
        client("speak", text=HELLO, priority=None, utteranceId=None),
        audio(9),
        ANSWER,
        client("stop", reason="done"),
        ANSWER,
        CLOSE,
    ],
    "02-page-client": [
        {"title": "A page: no `start`, `audio_end` after each utterance, alone after a cancel"},
        ANSWER,
        client("speak", text=HELLO),
        audio(9),
        ANSWER,
        ANSWER,
        client("speak", text=STALLING),
        audio(10),
        client("cancel"),
        ANSWER,
        client("stop"),
        ANSWER,
        CLOSE,
    ],
    "03-events": [
        {"title": "The extended set, by subprotocol", "subprotocols": ["makima.tts.v1"]},
        ANSWER,
        client("speak", text="A first sentence. And a second.", utteranceId="greeting"),
        ANSWER,
        audio(13),
        ANSWER,
        audio(10),
        ANSWER,
        ANSWER,
        ANSWER,
    ],
    "04-live-text": [
        {"title": "Live text: tokens split anywhere; late tokens after a cancel are dropped"},
        ANSWER,
        client("start"),
        ANSWER,
        client("speak", utteranceId="reply", final=False, text="Once upon a ti"),
        client("speak", utteranceId="reply", final=False, text="me there was a king. He had no"),
        audio(26),
        client("speak", utteranceId="reply", final=True, text=" queen."),
        audio(12),
        ANSWER,
        client("speak", utteranceId="second", final=False, text="This one is not finished"),
        client("flush", utteranceId="second"),
        audio(18),
        client("cancel", utteranceId="second", playedMs=400),
        ANSWER,
        client("speak", utteranceId="second", final=False, text=" and these tokens come late."),
        client("ping", id="still here"),
        ANSWER,
    ],
    "05-queue": [
        {"title": "A queue: high before normal; one utterance is cancelled before it begins"},
        ANSWER,
        client("start"),
        ANSWER,
        client("speak", utteranceId="running", text=STALLING),
        audio(10),
        client("speak", utteranceId="normal", text="I waited for my turn."),
        client("speak", utteranceId="unwanted", text="I never get mine."),
        client("speak", utteranceId="urgent", text="Me first.", priority="high"),
        client("cancel", utteranceId="unwanted"),
        ANSWER,
        client("cancel", utteranceId="running", playedMs=250),
        ANSWER,
        audio(7),
        ANSWER,
        audio(16),
        ANSWER,
    ],
    "06-json-transport": [
        {"title": "Audio as base64: an empty chunk marks the end"},
        ANSWER,
        client("start", transport="json", sampleRate=8000),
        ANSWER,
        client("speak", utteranceId="a", text="No."),
        *[ANSWER] * 6,
    ],
    "07-errors": [
        {"title": "Invalid input gets an error; the session continues"},
        ANSWER,
        client("start"),
        ANSWER,
        client("dance"),
        ANSWER,
        client("start", sampleRate=12345),
        ANSWER,
        client("speak", text="...", utteranceId="dots"),
        ANSWER,
        client("speak", text=HELLO, voice="nobody", utteranceId="a"),
        ANSWER,
        client("speak", text="It breaks {fail} here.", utteranceId="b"),
        audio(7),
        ANSWER,
        client("speak", text=HELLO, utteranceId="c"),
        audio(9),
        ANSWER,
    ],
    "08-stop": [
        {"title": "`stop` is valid at any time: each pending utterance gets its terminal message first"},
        ANSWER,
        client("start"),
        ANSWER,
        client("speak", utteranceId="a", text=STALLING),
        audio(10),
        client("speak", utteranceId="b", text="Queued."),
        client("stop", reason="leaving"),
        ANSWER,
        ANSWER,
        ANSWER,
        CLOSE,
    ],
    "09-makima-server": [
        {"title": "The makima server's proxy, with its own message types"},
        ANSWER,
        client("start", sampleRate=24000, encoding="pcm16", voice="narrator", language="en"),
        ANSWER,
        client("speak", text=HELLO, priority="normal"),
        audio(9),
        ANSWER,
        client("stop", reason="user_left"),
        ANSWER,
        CLOSE,
    ],
    "10-makima-server-json": [
        {"title": "The same with audio in `audioChunk`"},
        ANSWER,
        client(
            "start", sampleRate=24000, encoding="pcm16", voice="narrator", language="en", transport="json"
        ),
        ANSWER,
        client("speak", text="No.", priority="high"),
        *[ANSWER] * 5,
        client("stop", reason=None),
        ANSWER,
        CLOSE,
    ],
    "11-makima-server-errors": [
        {"title": "The same with errors: the session continues"},
        ANSWER,
        client("start", sampleRate=24000, encoding="pcm16", voice="nobody", language="en"),
        ANSWER,
        client("speak", text="", priority="normal"),
        ANSWER,
        client("speak", text="It breaks {fail} here.", priority="normal"),
        audio(7),
        ANSWER,
        client("speak", text=STALLING, priority="low"),
        audio(10),
        client("cancel"),
        ANSWER,
        client("stop", reason="user_left"),
        ANSWER,
        CLOSE,
    ],
    "12-played-text": [
        {"title": "A cancel, with the text that was played", "subprotocols": ["makima.tts.v1"]},
        ANSWER,
        client("start"),
        ANSWER,
        client("speak", text=f"**It was here.** {STALLING}", utteranceId="answer"),
        ANSWER,
        audio(9),
        ANSWER,
        audio(10),
        client("cancel", utteranceId="answer", playedMs=1100),
        ANSWER,
    ],
}


async def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as service:
            await service.until_ready()
            for name, script in SCRIPTS.items():
                write(CONVERSATIONS / f"{name}.jsonl", await play(service, script))


if __name__ == "__main__":
    asyncio.run(record())
