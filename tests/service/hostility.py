"""Generates hostile WebSocket frames: invalid in every known way.

In: a seeded Random. Out: one WebSocket frame. Does not know: the reaction of the server.
"""

import json
from random import Random

from tests.transport.wire import Opcode, frame

SECRET = "xyzzyplugh"
"""Part of every text; it must never turn up in a log."""

TEXTS = (
    "",
    "...?!",
    "a" * 5000,
    "\U0001f600" * 300,
    "\u202e\u2066 bidi \u2069",
    "\u200b\u200d\ufeff",
    "\x00\x07\x1b[31m\x9b",
    "<|im_end|><|endoftext|><tts_eos>",
    "\ud800",
    "e" + "\u0301" * 500,
    "{fail}",
    "{oom}",
    "{foreign}",
    "one {nan} two",
    "two {fail} three",
    "{endless}",
    "{stall}",
)
TYPES = ("start", "speak", "flush", "cancel", "stop", "ping", "pong", "Speak", "ready", "", "__proto__")
FIELDS = (
    *("text", "utteranceId", "final", "voice", "language", "seed", "priority", "playedMs", "id", "reason"),
    *("sampleRate", "encoding", "transport", "events", "authToken", "contractId", "unknown"),
)
VALUES: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1 << 70,
        1e308,
        float("nan"),
        float("-inf"),
        "",
        "../../etc/passwd",
        "\ud800",
    ),
    *(
        "u1",
        "a" * 65,
        "Klingon",
        "json",
        "pcm32f",
        8000,
        44100,
        44101,
        "high",
        [],
        [[[]]],
        {},
        {"a": {"b": 1}},
    ),
)
RAW = (
    b"",
    b"null",
    b"[]",
    b"{",
    b"[" * 2000,
    b'{"a":' * 2000,
    b'{"type":"speak","type":"stop","text":1}',
    b'{"type":"ping","id":' + b"9" * 5000 + b"}",
    b'{"type":"speak","text":"\\ud800\\udc00\\udfff"}',
    b'{"type":"speak","text":NaN}',
    b"\xef\xbb\xbf{}",
)


def hostile_frame(random: Random) -> bytes:
    """Mostly messages, some frames without a message, and occasionally one that ends the connection."""
    kinds = (_message, _message, _message, _speak, _speak, _raw, _binary, _fragmented, _control, _breaking)
    weights = (20, 20, 20, 20, 20, 10, 5, 5, 5, 1)
    return random.choices(kinds, weights)[0](random)


def _text_frame(message: object) -> bytes:
    return frame(Opcode.TEXT, json.dumps(message).encode())


def _message(random: Random) -> bytes:
    fields = {random.choice(FIELDS): random.choice(VALUES) for _ in range(random.randint(0, 6))}
    return _text_frame({**fields, "type": random.choice((*TYPES, *VALUES))})


def _speak(random: Random) -> bytes:
    message: dict[str, object] = {"type": "speak", "text": f"{SECRET} {random.choice(TEXTS)}"}
    if random.random() < 0.5:
        message |= {"utteranceId": f"live{random.randint(0, 5)}", "final": random.random() < 0.5}
    return _text_frame(message)


def _raw(random: Random) -> bytes:
    return frame(Opcode.TEXT, random.choice(RAW))


def _binary(random: Random) -> bytes:
    return frame(Opcode.BINARY, random.randbytes(random.randint(0, 300)))


def _fragmented(random: Random) -> bytes:
    parts = [b"{", b"", f'"type":"{SECRET}"'.encode(), b"}"]
    frames = [frame(Opcode.CONTINUATION, part, final=part is parts[-1]) for part in parts]
    return frame(Opcode.TEXT, final=False) + b"".join(frames)


def _control(random: Random) -> bytes:
    return frame(random.choice((Opcode.PING, Opcode.PONG)), random.randbytes(random.randint(0, 125)))


def _breaking(random: Random) -> bytes:
    return random.choice(
        (
            random.randbytes(64),
            frame(Opcode.TEXT, b"\xff\xfe"),
            frame(Opcode.TEXT, b"a" * 70_000),
            frame(Opcode.CONTINUATION, b"nothing to continue"),
            frame(Opcode.CLOSE, b"\x00"),
            frame(Opcode.PING, bytes(126)),
        )
    )
