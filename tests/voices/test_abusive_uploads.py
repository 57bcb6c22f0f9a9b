"""Hostile files are refused within 2 s of computing and 64 MB, each with a reason."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.audio.recordings import full_box, id3_tag, mp4, recorded
from tests.voices.clips import Pcm, silence, sound_file, speech

MOST_S = 2.0
MOST_BYTES = 64 * 2**20


def long_silence(duration_s: int, kind: str) -> bytes:
    """An hour of it is half a megabyte of FLAC."""
    file = BytesIO()
    with soundfile.SoundFile(file, "w", 48_000, 1, format=kind) as sound:
        # More at once overflows the stack of libvorbis.
        for _ in range(duration_s):
            sound.write(silence(1.0, 48_000))
    return file.getvalue()


def flac_that_claims(frames: int) -> bytes:
    """The 36 bits of the stream's length in STREAMINFO."""
    content = bytearray(sound_file(speech(4.0), kind="FLAC"))
    content[21] = content[21] & 0xF0 | frames >> 32
    content[22:26] = (frames & 0xFFFFFFFF).to_bytes(4)
    return bytes(content)


def wav_that_claims(size_bytes: int) -> bytes:
    content = bytearray(sound_file(speech(1.0)))
    content[4:8] = content[40:44] = struct.pack("<I", size_bytes)
    return bytes(content)


def au_that_claims_half_a_terabyte() -> bytes:
    return b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 6, 192_000, 1024) + bytes(4096)


def wide(duration_s: float, *, opposite: bool = False) -> bytes:
    """As large as a clip gets: 192 kHz, stereo. ``opposite``: its channels cancel each other out."""
    second = speech(1.0, 192_000)
    pcm = np.tile(np.stack([second, -second if opposite else second], axis=1), (round(duration_s), 1))
    return sound_file(pcm, 192_000, subtype="PCM_U8")


def not_numbers() -> Pcm:
    pcm = speech(4.0)
    pcm[-1] = np.nan
    return pcm


REFUSED: dict[str, Callable[[], bytes]] = {
    "an-hour-of-flac": lambda: long_silence(3600, "FLAC"),
    "three-minutes-of-vorbis": lambda: long_silence(180, "OGG"),
    "a-minute-and-a-bit-of-everything": lambda: wide(61.0),
    "wav-of-four-gigabytes": lambda: wav_that_claims(0xFFFFFFFF),
    "au-of-half-a-terabyte": au_that_claims_half_a_terabyte,
    "not-numbers": lambda: sound_file(not_numbers(), subtype="FLOAT"),
    "silent": lambda: sound_file(silence(10.0)),
    "clipped": lambda: sound_file(np.sign(speech(10.0))),
    "too-short": lambda: sound_file(speech(2.0)),
    "too-slow": lambda: sound_file(speech(4.0, 8000), 4000),
    "too-fast": lambda: sound_file(speech(4.0, 8000), 384_000),
    "nine-channels": lambda: sound_file(np.stack([speech(4.0)] * 9, axis=1)),
    "matlab": lambda: sound_file(speech(4.0), kind="MAT5"),
    "thirty-megabytes-of-zeros": lambda: bytes(30 * 2**20),
    "thirty-megabytes-of-mp3-frames": lambda: (b"\xff\xfb\x90\x00" + bytes(413)) * 75_000,
    "nothing": lambda: b"",
    "mp4-with-an-index-of-a-gigabyte": lambda: mp4(70_000_000, full_box(b"url ", flags=1), ticks=2),
    "mp4-with-six-large-indexes": lambda: mp4(170_000, full_box(b"url ", flags=1), ticks=2, tracks=6),
    "millions-of-boxes": lambda: b"\0\0\0\x08free" * 1_000_000,
    "millions-of-chunks": lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 1_000_000,
    "millions-of-frames-without-sound": lambda: b"\xff\xf1\x4c\x40\x00\xff\xfc" * 1_000_000,
    "millions-of-unknown-frames": lambda: b"#!AMR\n" + b"\x74" * 8_000_000,
    "millions-of-tags": lambda: id3_tag(0) * 1_000_000,
}
# Headers that lie about good sound, many packets, and the most samples.
ACCEPTED: dict[str, Callable[[], bytes]] = {
    "the-largest-in-opposite-phase": lambda: wide(60.0, opposite=True),
    "flac-of-a-month": lambda: flac_that_claims(2**36 - 1),
    "flac-of-unknown-length": lambda: flac_that_claims(0),
    "opus-in-the-shortest-packets": lambda: recorded(
        "ogg", "libopus", 48_000, speech(30.0, 48_000), codec_options={"frame_duration": "2.5"}
    ),
}
TOO_LARGE = "too-large"
LARGEST = "z-largest"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One process gets all of them, then a valid clip of the maximum size."""
    folder: Path = tmp_path_factory.mktemp("abuse")
    for name, make in (REFUSED | ACCEPTED).items():
        (folder / name).write_bytes(make())
    (folder / TOO_LARGE).write_bytes(bytes(33 * 2**20))
    (folder / LARGEST).write_bytes(wide(60.0))
    process = subprocess.run(
        [sys.executable, "-m", "tests.voices.abuse", str(folder)], capture_output=True, text=True, check=True
    )
    assert process.stderr == ""
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused_soon_and_in_little_memory(answers: Any, name: str) -> None:
    answer = answers[name]
    assert (answer["status"], answer["body"]["error"]["code"]) == (422, "INVALID_AUDIO")
    assert answer["took_s"] < MOST_S
    assert answer["grown_bytes"] < MOST_BYTES


def test_a_body_over_the_limit_is_refused_soon_and_in_little_memory(answers: Any) -> None:
    assert answers[TOO_LARGE]["status"] == 413
    assert answers[TOO_LARGE]["took_s"] < MOST_S
    assert answers[TOO_LARGE]["grown_bytes"] < MOST_BYTES


@pytest.mark.parametrize("name", [*ACCEPTED, LARGEST])
def test_an_allowed_clip_is_accepted_within_the_same_bounds(answers: Any, name: str) -> None:
    assert answers[name]["status"] == 201
    assert answers[name]["took_s"] < MOST_S
    assert answers[name]["grown_bytes"] < MOST_BYTES
