"""Time to first audio of a text that is still being written, token by token, as a language model writes.

In: how fast the tokens come. Out: from the first of them to the first sound, and how long the listener then
had nothing to hear, with a voice by its embedding, one with its transcript, and the text whole. Does not
know: how fast a GPU is; the device takes what is aimed at for one (bench/paced_device.py).

    python -m bench.live_text --rates 5 20 80 --runs 5

A token is four characters, on no boundary. The checkpoint's tokenizer has the text's words whole, as Qwen's
has common ones, and a word takes four frames to say. So what is measured is the writer and the service.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from bench.paced_device import FRAMES_PER_ROW, LATENESS
from bench.report import circumstances, table
from bench.server import Server, ServerOptions, home, serving
from bench.voice import LANGUAGE, VOICE, write_voice
from makima_tts.client import SpeechClient, Text
from makima_tts.protocol import Start
from makima_tts.speech import ListenerClock
from tests.checkpoints import QUICK, write_ending_checkpoint
from tests.checkpoints.tiny_tokenizer import write_tokenizer

TEXT = (
    "They had followed the wind because it was dark that night, and nobody had seen the land. "
    "Two of the boats came home in the morning with torn sails. "
    "The third was seen a week later, far to the south, and all of its men were well."
)
TOKEN_CHARS = 4
EMBEDDING = "embedded"
WHOLE = "whole"
# A token for each letter: as many as a clip of six seconds has frames, so that the text comes after them.
_TRANSCRIPT = "QUITE STILL AND GREY LAY EVERY HARBOUR WHEN OLD SAILORS BEGAN TO SPEAK ABOUT LOST SHIPS."
_WORD_FRAMES = 4


def words_of(text: str) -> list[str]:
    """As they are in the middle of a sentence and at its beginning."""
    words = dict.fromkeys(text.replace(",", "").replace(".", "").split())
    return [f" {word}" for word in words] + [word for word in words if word.istitle()]


@contextmanager
def server() -> Iterator[Server]:
    """Ready, with both voices encoded."""
    with tempfile.TemporaryDirectory(prefix="makima-tts-bench-") as folder, home(_TRANSCRIPT) as voices:
        checkpoint = write_ending_checkpoint(Path(folder) / "checkpoint")
        write_tokenizer(checkpoint, first_special_id=QUICK.first_special_id, words=words_of(TEXT))
        write_voice(voices / "voices", EMBEDDING, _TRANSCRIPT, mode="xvector")
        os.environ[FRAMES_PER_ROW] = str(_WORD_FRAMES)
        os.environ[LATENESS] = str(Path(folder) / "lateness")
        with serving(
            ServerOptions(checkpoint, "fp32", threads=1, module="bench.paced_server"), voices
        ) as server:
            yield server


async def written(rate_hz: float, since: list[float]) -> AsyncIterator[str]:
    """Each token at its scheduled time; ``since`` receives the time of the first."""
    since.append(monotonic())
    for number, start in enumerate(range(0, len(TEXT), TOKEN_CHARS)):
        await asyncio.sleep(max(0.0, since[0] + number / rate_hz - monotonic()))
        yield TEXT[start : start + TOKEN_CHARS]


async def heard(url: str, voice: str, rate_hz: float | None) -> tuple[float, int, float]:
    """Seconds from the first token to the first sound; then how often there was none, and for how long."""
    since: list[float] = []
    clock, late_s = ListenerClock(), 0.0
    async with SpeechClient.connect(url, Start(language=LANGUAGE, voice=voice)) as client:
        text: Text = TEXT if rate_hz is None else written(rate_hz, since)
        began_s = monotonic()
        speech = client.speak(text)
        async for chunk in speech:
            duration_s = speech.audio_format.duration_ms(len(chunk.pcm) // 2) / 1000
            late_s += clock.deliver(duration_s, chunk.received_s)
    assert speech.first_audio_s is not None
    return speech.first_audio_s - (since[0] if since else began_s), clock.underruns, late_s


async def measure(url: str, rates: list[float], runs: int) -> list[dict[str, Any]]:
    """One at a time, medians; the first of each voice is not counted."""
    rows = []
    for rate_hz in (*rates, None):
        for voice in (EMBEDDING, VOICE):
            met = [await heard(url, voice, rate_hz) for _ in range(runs + (rate_hz is None))]
            first_s, pauses, silent_s = (median(values) for values in zip(*met[-runs:], strict=True))
            rows.append(
                {
                    "tokens a second": WHOLE if rate_hz is None else rate_hz,
                    "voice": "by embedding" if voice == EMBEDDING else "with its transcript",
                    "first token to first sound, ms": round(first_s * 1000),
                    "pauses": pauses,
                    "of them together, s": round(silent_s, 2),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[5, 20, 80], help="tokens a second")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before = circumstances()
    with server() as running:
        rows = asyncio.run(measure(running.url, options.rates, options.runs))
    print(f"{table(rows)}\n\nbefore: {before}\nafter: {circumstances()['load average']}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "circumstances": before}, indent=1))


if __name__ == "__main__":
    main()
